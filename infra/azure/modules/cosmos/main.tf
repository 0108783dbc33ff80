# Cosmos DB. Names, keys and policies are those of serving_export/containers.py; the suite reads both
# (tests/infra/test_terraform.py) and fails where they differ.

locals {
  database = "hyperrec"
  control  = "control"
  slots    = ["a", "b", "c"]

  # Limits of the service: a flat index; and the vectors up to which it advises quantizedFlat.
  flat_dimensions = 505
  quantized_items = 50000

  vector_index = var.dimensions <= local.flat_dimensions ? "flat" : (
    var.items <= local.quantized_items ? "quantizedFlat" : "diskANN"
  )
}

resource "azurerm_cosmosdb_account" "this" {
  #checkov:skip=CKV_AZURE_100: Microsoft's keys: the data are pseudonymous and no contract asks for own ones, whose loss would lose everything.
  name                = var.place.account
  resource_group_name = var.place.group
  location            = var.place.location
  tags                = var.place.tags
  offer_type          = "Standard"
  kind                = "GlobalDocumentDB"

  # Only Entra identities with a role of the data plane; keys are not even valid.
  local_authentication_disabled = true
  # What remains for keys of the control plane: nobody changes containers by the data plane.
  access_key_metadata_writes_enabled = false
  public_network_access_enabled      = false
  minimal_tls_version                = "Tls12"
  is_virtual_network_filter_enabled  = false

  # A lease on `control` is taken by ETag, and a flip is to be seen by the next reader.
  consistency_policy {
    consistency_level = "Session"
  }

  geo_location {
    location          = var.place.location
    failover_priority = 0
    zone_redundant    = var.zone_redundant
  }

  capabilities {
    name = "EnableNoSQLVectorSearch"
  }

  # A container deleted or spoilt is restored to any second of the last days.
  backup {
    type = "Continuous"
    tier = var.backup_tier
  }

  burst_capacity_enabled = true

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_cosmosdb_sql_database" "this" {
  name                = local.database
  resource_group_name = var.place.group
  account_name        = azurerm_cosmosdb_account.this.name
}

# azurerm knows no vector policies, so the containers are made by the API itself.
resource "azapi_resource" "control" {
  type      = "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers@2025-04-15"
  name      = local.control
  parent_id = azurerm_cosmosdb_sql_database.this.id

  body = {
    properties = {
      resource = {
        id           = local.control
        partitionKey = { paths = ["/id"], kind = "Hash", version = 2 }
      }
      options = {
        # One document, read by every reader at its interval: the least there is.
        autoscaleSettings = { maxThroughput = 1000 }
      }
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "azapi_resource" "slot" {
  for_each  = toset(local.slots)
  type      = "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers@2025-04-15"
  name      = "item-embeddings-${each.value}"
  parent_id = azurerm_cosmosdb_sql_database.this.id

  body = {
    properties = {
      resource = {
        id           = "item-embeddings-${each.value}"
        partitionKey = { paths = ["/item_id"], kind = "Hash", version = 2 }

        vectorEmbeddingPolicy = {
          vectorEmbeddings = [{
            path             = "/vector"
            dataType         = "float32"
            distanceFunction = "dotproduct"
            dimensions       = var.dimensions
          }]
        }

        indexingPolicy = {
          indexingMode = "consistent"
          automatic    = true
          includedPaths = [
            { path = "/item_id/?" },
            { path = "/version/?" },
            { path = "/count/?" },
            { path = "/is_live/?" },
            { path = "/category/[]/?" },
          ]
          excludedPaths = [
            { path = "/*" },
            { path = "/vector/*" },
            { path = "/context/*" },
          ]
          vectorIndexes = [{ path = "/vector", type = local.vector_index }]
        }
      }
      options = {
        autoscaleSettings = { maxThroughput = var.slot_max_throughput }
      }
    }
  }

  # A container's vector policy cannot be changed. A model of another dimension means new slots, and
  # with them no published version until the next export: see OPERATIONS.md, "another dimension".
  replace_triggers_external_values = [var.dimensions]
}

resource "azurerm_private_endpoint" "this" {
  name                = "${var.place.prefix}-cosmos"
  resource_group_name = var.place.group
  location            = var.place.location
  subnet_id           = var.subnet_id
  tags                = var.place.tags

  private_service_connection {
    name                           = "cosmos"
    private_connection_resource_id = azurerm_cosmosdb_account.this.id
    subresource_names              = ["Sql"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "cosmos"
    private_dns_zone_ids = [var.zones["cosmos"]]
  }
}

resource "azurerm_monitor_diagnostic_setting" "this" {
  name                           = "cosmos"
  target_resource_id             = azurerm_cosmosdb_account.this.id
  log_analytics_workspace_id     = var.workspace_id
  log_analytics_destination_type = "Dedicated"

  # Who changed roles and containers; single requests would cost more than the account.
  enabled_log {
    category = "ControlPlaneRequests"
  }

  enabled_log {
    category = "PartitionKeyRUConsumption"
  }

  enabled_metric {
    category = "Requests"
  }
}
