# The blob account: `raw`, which the retailer fills, and `runs`, which the stages write.

locals {
  containers = ["raw", "runs"]
}

resource "azurerm_storage_account" "this" {
  #checkov:skip=CKV_AZURE_33: The account has no queues.
  #checkov:skip=CKV2_AZURE_1: Microsoft's keys: the data are pseudonymous and no contract asks for own ones, whose loss would lose everything.
  name                = var.place.account
  resource_group_name = var.place.group
  location            = var.place.location
  tags                = var.place.tags

  account_kind             = "StorageV2"
  account_tier             = "Standard"
  account_replication_type = var.replication
  # Folders are real: a run is deleted, and listed, in one step; Spark's abfss connector needs it.
  is_hns_enabled = true

  min_tls_version                   = "TLS1_2"
  https_traffic_only_enabled        = true
  infrastructure_encryption_enabled = true

  # Entra identities alone: no key exists that could leak, and no signature made of one.
  shared_access_key_enabled        = false
  local_user_enabled               = false
  allow_nested_items_to_be_public  = false
  default_to_oauth_authentication  = true
  public_network_access_enabled    = false
  cross_tenant_replication_enabled = false
  allowed_copy_scope               = "AAD"

  network_rules {
    default_action = "Deny"
    bypass         = ["AzureServices"]
  }

  sas_policy {
    expiration_period = "00.01:00:00"
    expiration_action = "Block"
  }

  blob_properties {
    # What lifecycle rules on `compacted/` go by.
    last_access_time_enabled = true

    delete_retention_policy {
      days = var.soft_delete_days
    }

    container_delete_retention_policy {
      days = var.soft_delete_days
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_storage_container" "this" {
  #checkov:skip=CKV2_AZURE_21: Logged by the diagnostic setting below, which replaces the classic logging that this rule looks for.
  for_each              = toset(local.containers)
  name                  = each.value
  storage_account_id    = azurerm_storage_account.this.id
  container_access_type = "private"
}

# Prefixes hold a container's name first. Nothing of `raw` is ever deleted here: it is the retailer's.
resource "azurerm_storage_management_policy" "this" {
  storage_account_id = azurerm_storage_account.this.id

  # A run's id begins with its date. The rows that it quarantined lie inside it
  # (RUN/preprocess/ATTEMPT/quarantine) and go with it: no rule can name them apart.
  rule {
    name    = "runs"
    enabled = true

    filters {
      prefix_match = ["runs/2"]
      blob_types   = ["blockBlob"]
    }

    actions {
      base_blob {
        tier_to_cool_after_days_since_modification_greater_than = 30
        delete_after_days_since_modification_greater_than       = var.run_days
      }
    }
  }

  # A day inside the window is read every night. One that is not read any more has left it, or its
  # files or the rules have changed; made again from `raw` when it is wanted after all.
  rule {
    name    = "compacted"
    enabled = true

    filters {
      prefix_match = ["runs/compacted/"]
      blob_types   = ["blockBlob"]
    }

    actions {
      base_blob {
        delete_after_days_since_last_access_time_greater_than = var.compacted_idle_days
      }
    }
  }
}

resource "azurerm_private_endpoint" "this" {
  for_each            = toset(["blob", "dfs"])
  name                = "${var.place.prefix}-${each.value}"
  resource_group_name = var.place.group
  location            = var.place.location
  subnet_id           = var.subnet_id
  tags                = var.place.tags

  private_service_connection {
    name                           = each.value
    private_connection_resource_id = azurerm_storage_account.this.id
    subresource_names              = [each.value]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = each.value
    private_dns_zone_ids = [var.zones[each.value]]
  }
}

# Who read and who deleted what.
resource "azurerm_monitor_diagnostic_setting" "blobs" {
  name                       = "blobs"
  target_resource_id         = "${azurerm_storage_account.this.id}/blobServices/default"
  log_analytics_workspace_id = var.workspace_id

  enabled_log {
    category = "StorageDelete"
  }

  enabled_log {
    category = "StorageWrite"
  }

  enabled_log {
    category = "StorageRead"
  }

  enabled_metric {
    category = "Transaction"
  }
}
