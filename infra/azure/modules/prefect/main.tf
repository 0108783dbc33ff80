# What the Prefect server of the cluster stands on: Postgres, and its two secrets.
#
# Passwords are ephemeral: drawn in an apply, handed to the server and the vault, and never written to
# the state. They change when `password_version` is raised, and only then.

locals {
  user     = "prefect"
  database = "prefect"
}

ephemeral "random_password" "database" {
  length  = 40
  special = false
}

ephemeral "random_password" "api" {
  length  = 40
  special = false
}

resource "azurerm_postgresql_flexible_server" "this" {
  #checkov:skip=CKV2_AZURE_57: Inside the network by its delegated subnet, the other private kind; the two exclude each other.
  name                = "${var.place.account}-prefect"
  resource_group_name = var.place.group
  location            = var.place.location
  tags                = var.place.tags

  version    = "16"
  sku_name   = var.postgres.sku
  storage_mb = var.postgres.storage_mb

  administrator_login               = local.user
  administrator_password_wo         = ephemeral.random_password.database.result
  administrator_password_wo_version = var.password_version

  delegated_subnet_id           = var.subnet_id
  private_dns_zone_id           = var.zone_id
  public_network_access_enabled = false
  auto_grow_enabled             = true
  backup_retention_days         = var.postgres.backup_days
  geo_redundant_backup_enabled  = var.postgres.geo_backup

  dynamic "high_availability" {
    for_each = var.postgres.zone_redundant ? [1] : []

    content {
      mode = "ZoneRedundant"
    }
  }

  maintenance_window {
    day_of_week  = 2
    start_hour   = 10
    start_minute = 0
  }

  lifecycle {
    prevent_destroy = true
    # Azure chooses zones, and changes them at a failover.
    ignore_changes = [zone, high_availability[0].standby_availability_zone]
  }
}

resource "azurerm_postgresql_flexible_server_database" "this" {
  name      = local.database
  server_id = azurerm_postgresql_flexible_server.this.id
  charset   = "UTF8"
  collation = "en_US.utf8"
}

# Prefect's migrations create this extension, which Azure refuses unless it is named here.
resource "azurerm_postgresql_flexible_server_configuration" "extensions" {
  name      = "azure.extensions"
  server_id = azurerm_postgresql_flexible_server.this.id
  value     = "PG_TRGM"
}

# By the control plane: the vault's own address is reachable from the network alone.
resource "azapi_resource" "database_url" {
  type      = "Microsoft.KeyVault/vaults/secrets@2023-07-01"
  name      = "prefect-database-url"
  parent_id = var.vault_id

  body = {
    properties = { contentType = "text/plain" }
  }
  sensitive_body = {
    properties = {
      value = join("", [
        "postgresql+asyncpg://${local.user}:", ephemeral.random_password.database.result,
        "@${azurerm_postgresql_flexible_server.this.fqdn}:5432/${local.database}?ssl=require",
      ])
    }
  }
  sensitive_body_version = { "properties.value" = tostring(var.password_version) }
}

resource "azapi_resource" "auth" {
  type      = "Microsoft.KeyVault/vaults/secrets@2023-07-01"
  name      = "prefect-auth"
  parent_id = var.vault_id

  body = {
    properties = { contentType = "text/plain" }
  }
  sensitive_body = {
    properties = {
      value = join("", ["operator:", ephemeral.random_password.api.result])
    }
  }
  sensitive_body_version = { "properties.value" = tostring(var.password_version) }
}

resource "azurerm_monitor_diagnostic_setting" "this" {
  name                       = "postgres"
  target_resource_id         = azurerm_postgresql_flexible_server.this.id
  log_analytics_workspace_id = var.workspace_id

  enabled_log {
    category = "PostgreSQLLogs"
  }
}
