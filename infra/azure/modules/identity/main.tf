# Who may do what: one identity a stage, each with no more than its stage needs, and nobody else.
# A pod is one of them by its service account of the same name (infra/kubernetes/accounts.yaml).

locals {
  namespace = "hyperrec"

  read  = "Storage Blob Data Reader"
  write = "Storage Blob Data Contributor"

  # Built-in roles of Cosmos DB's data plane; they read and write items, and make no containers.
  cosmos_roles = {
    reader      = "00000000-0000-0000-0000-000000000001"
    contributor = "00000000-0000-0000-0000-000000000002"
  }

  raw = {
    preprocess = local.read
    flow       = local.read
  }
  runs = {
    preprocess = local.write
    train      = local.write
    evaluate   = local.write
    export     = local.write
    flow       = local.write
  }
  cosmos = {
    # It judges against the active version, which `control` names.
    evaluate = "reader"
    export   = "contributor"
    # The nightly flow runs preprocess' driver, evaluate and export in its own pod; a flow that sends
    # every stage to a pod of its own would need none of this.
    flow = "contributor"
  }

  # `prefect` reads two secrets and no data.
  accounts = toset(concat(keys(local.runs), ["prefect"]))
}

resource "azurerm_user_assigned_identity" "this" {
  for_each            = local.accounts
  name                = "${var.place.prefix}-${each.value}"
  resource_group_name = var.place.group
  location            = var.place.location
  tags                = var.place.tags
}

resource "azurerm_federated_identity_credential" "this" {
  for_each            = local.accounts
  name                = each.value
  resource_group_name = var.place.group
  parent_id           = azurerm_user_assigned_identity.this[each.value].id
  issuer              = var.issuer
  audience            = ["api://AzureADTokenExchange"]
  subject             = "system:serviceaccount:${local.namespace}:${each.value}"
}

resource "azurerm_role_assignment" "raw" {
  for_each             = local.raw
  scope                = var.raw_container_id
  role_definition_name = each.value
  principal_id         = azurerm_user_assigned_identity.this[each.key].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "runs" {
  for_each             = local.runs
  scope                = var.runs_container_id
  role_definition_name = each.value
  principal_id         = azurerm_user_assigned_identity.this[each.key].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_cosmosdb_sql_role_assignment" "stage" {
  for_each            = local.cosmos
  resource_group_name = var.place.group
  account_name        = var.cosmos_account_name
  scope               = var.database_scope
  role_definition_id  = "${var.cosmos_account_id}/sqlRoleDefinitions/${local.cosmos_roles[each.value]}"
  principal_id        = azurerm_user_assigned_identity.this[each.key].principal_id
}

# Services that read recommendations: identities of their own teams.
resource "azurerm_cosmosdb_sql_role_assignment" "reader" {
  for_each            = var.readers
  resource_group_name = var.place.group
  account_name        = var.cosmos_account_name
  scope               = var.database_scope
  role_definition_id  = "${var.cosmos_account_id}/sqlRoleDefinitions/${local.cosmos_roles["reader"]}"
  principal_id        = each.value
}

resource "azurerm_role_assignment" "vault" {
  scope                = var.vault_id
  role_definition_name = "Key Vault Secrets User"
  principal_id         = azurerm_user_assigned_identity.this["prefect"].principal_id
  principal_type       = "ServicePrincipal"
}
