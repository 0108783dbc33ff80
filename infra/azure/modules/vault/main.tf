# The vault of the two secrets that remain: the Prefect server's database and its API's password.

resource "azurerm_key_vault" "this" {
  name                = var.place.account
  resource_group_name = var.place.group
  location            = var.place.location
  tags                = var.place.tags
  tenant_id           = var.tenant_id
  sku_name            = "standard"

  rbac_authorization_enabled    = true
  public_network_access_enabled = false
  purge_protection_enabled      = true
  soft_delete_retention_days    = 90

  network_acls {
    default_action = "Deny"
    bypass         = "AzureServices"
  }
}

resource "azurerm_private_endpoint" "this" {
  name                = "${var.place.prefix}-vault"
  resource_group_name = var.place.group
  location            = var.place.location
  subnet_id           = var.subnet_id
  tags                = var.place.tags

  private_service_connection {
    name                           = "vault"
    private_connection_resource_id = azurerm_key_vault.this.id
    subresource_names              = ["vault"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "vault"
    private_dns_zone_ids = [var.zones["vault"]]
  }
}

resource "azurerm_monitor_diagnostic_setting" "this" {
  name                       = "vault"
  target_resource_id         = azurerm_key_vault.this.id
  log_analytics_workspace_id = var.workspace_id

  enabled_log {
    category = "AuditEvent"
  }
}
