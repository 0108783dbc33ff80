# What watches from outside. Prefect itself reports runs that fail, are refused, come late or crash;
# here is what Prefect cannot say: that it is gone itself, and that the accounts beneath are unwell.
# Every alert names its section of infra/OPERATIONS.md.

resource "azurerm_log_analytics_workspace" "this" {
  name                         = var.place.prefix
  resource_group_name          = var.place.group
  location                     = var.place.location
  tags                         = var.place.tags
  sku                          = "PerGB2018"
  retention_in_days            = 90
  daily_quota_gb               = 5
  local_authentication_enabled = false
}

resource "azurerm_monitor_action_group" "owner" {
  name                = "${var.place.prefix}-owner"
  resource_group_name = var.place.group
  short_name          = "hyperrec"
  tags                = var.place.tags

  email_receiver {
    name                    = "owner"
    email_address           = var.owner
    use_common_alert_schema = true
  }
}

locals {
  # Searches of the workspace: how many rows are too many or, with `below`, too few.
  searches = {
    # The dead man's switch: an export's manifest is the last thing that a good night writes, and
    # this asks nobody but the blob account whether it came.
    no-version-published = {
      severity = 1
      below    = 1
      every    = "PT1H"
      # The longest that a search may look back; a night that is not done by two in the morning of
      # the next is found out within the hour.
      window      = "P2D"
      description = "No version was published for a day and two hours; OPERATIONS.md, 'No version'."
      query       = <<-QUERY
        StorageBlobLogs
        | where TimeGenerated > ago(26h)
        | where OperationName in ("PutBlob", "PutBlockList") and StatusText == "Success"
        | where ObjectKey endswith "/export/manifest.json"
      QUERY
    }
    prefect-silent = {
      severity    = 1
      below       = 1
      every       = "PT15M"
      window      = "PT30M"
      description = "No pod of the Prefect server is running; OPERATIONS.md, 'Prefect server'."
      query       = <<-QUERY
        KubePodInventory
        | where Namespace == "hyperrec" and Name startswith "prefect-server"
        | where PodStatus == "Running"
      QUERY
    }
    job-out-of-memory = {
      severity    = 2
      below       = 0
      every       = "PT15M"
      window      = "PT30M"
      description = "A container was killed for memory; OPERATIONS.md, 'Capacity'."
      query       = <<-QUERY
        KubePodInventory
        | where Namespace == "hyperrec" and ContainerStatusReason == "OOMKilled"
      QUERY
    }
    secret-read-refused = {
      severity    = 2
      below       = 0
      every       = "PT15M"
      window      = "PT30M"
      description = "The vault refused a caller; OPERATIONS.md, 'Secrets'."
      query       = <<-QUERY
        AzureDiagnostics
        | where ResourceProvider == "MICROSOFT.KEYVAULT" and httpStatusCode_d == 403
      QUERY
    }
  }

  # Metrics of the accounts.
  metrics = {
    cosmos-throttled = {
      scope       = var.cosmos_id
      namespace   = "Microsoft.DocumentDB/databaseAccounts"
      metric      = "TotalRequests"
      aggregation = "Count"
      operator    = "GreaterThan"
      # A load at its pace is refused now and then; readers must not be.
      threshold   = 1000
      severity    = 2
      dimension   = { name = "StatusCode", values = ["429"] }
      description = "Cosmos DB refuses many requests; OPERATIONS.md, 'Request units'."
    }
    cosmos-unavailable = {
      scope       = var.cosmos_id
      namespace   = "Microsoft.DocumentDB/databaseAccounts"
      metric      = "ServiceAvailability"
      aggregation = "Average"
      operator    = "LessThan"
      threshold   = 99
      severity    = 1
      dimension   = null
      description = "Cosmos DB is not available; OPERATIONS.md, 'Disaster recovery'."
    }
    storage-unavailable = {
      scope       = var.storage_id
      namespace   = "Microsoft.Storage/storageAccounts"
      metric      = "Availability"
      aggregation = "Average"
      operator    = "LessThan"
      threshold   = 99
      severity    = 1
      dimension   = null
      description = "The blob account is not available; OPERATIONS.md, 'Disaster recovery'."
    }
    postgres-storage = {
      scope       = var.postgres_id
      namespace   = "Microsoft.DBforPostgreSQL/flexibleServers"
      metric      = "storage_percent"
      aggregation = "Maximum"
      operator    = "GreaterThan"
      threshold   = 80
      severity    = 2
      dimension   = null
      description = "The Prefect server's database fills up; OPERATIONS.md, 'Prefect server'."
    }
    pods-pending = {
      scope       = var.cluster_id
      namespace   = "Microsoft.ContainerService/managedClusters"
      metric      = "kube_pod_status_phase"
      aggregation = "Average"
      operator    = "GreaterThan"
      threshold   = 0
      severity    = 2
      dimension   = { name = "phase", values = ["Pending"] }
      description = "Pods wait for a machine; OPERATIONS.md, 'Capacity'."
    }
  }
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "this" {
  for_each                = local.searches
  name                    = "${var.place.prefix}-${each.key}"
  resource_group_name     = var.place.group
  location                = var.place.location
  tags                    = var.place.tags
  scopes                  = [azurerm_log_analytics_workspace.this.id]
  severity                = each.value.severity
  evaluation_frequency    = each.value.every
  window_duration         = each.value.window
  auto_mitigation_enabled = true
  description             = each.value.description
  # Tables come with their first rows, which a fresh workspace does not have yet.
  skip_query_validation = true

  criteria {
    query                   = each.value.query
    time_aggregation_method = "Count"
    operator                = each.value.below > 0 ? "LessThan" : "GreaterThan"
    threshold               = each.value.below
  }

  action {
    action_groups = [azurerm_monitor_action_group.owner.id]
  }
}

resource "azurerm_monitor_metric_alert" "this" {
  for_each            = local.metrics
  name                = "${var.place.prefix}-${each.key}"
  resource_group_name = var.place.group
  tags                = var.place.tags
  scopes              = [each.value.scope]
  severity            = each.value.severity
  frequency           = "PT5M"
  window_size         = "PT15M"
  description         = each.value.description

  criteria {
    metric_namespace = each.value.namespace
    metric_name      = each.value.metric
    aggregation      = each.value.aggregation
    operator         = each.value.operator
    threshold        = each.value.threshold

    dynamic "dimension" {
      for_each = each.value.dimension == null ? [] : [each.value.dimension]

      content {
        name     = dimension.value.name
        operator = "Include"
        values   = dimension.value.values
      }
    }
  }

  action {
    action_group_id = azurerm_monitor_action_group.owner.id
  }
}

resource "azurerm_consumption_budget_resource_group" "this" {
  name              = var.place.prefix
  resource_group_id = var.group_id
  amount            = var.monthly_budget
  time_grain        = "Monthly"

  time_period {
    start_date = var.budget_start
  }

  notification {
    operator       = "GreaterThan"
    threshold      = 80
    contact_emails = [var.owner]
  }

  notification {
    operator       = "GreaterThan"
    threshold      = 100
    contact_emails = [var.owner]
  }

  notification {
    operator       = "GreaterThan"
    threshold      = 110
    threshold_type = "Forecasted"
    contact_emails = [var.owner]
  }
}
