# The cluster that runs the Prefect server, its workers and the jobs. Its API is private: commands
# come through `az aks command invoke`, or from inside the network.

locals {
  # Jobs say where they go by the label; the taint keeps everything else off machines that are paid
  # for by the minute. The services' pool has none.
  label = "hyperrec.io/pool"
}

resource "azurerm_user_assigned_identity" "cluster" {
  name                = "${var.place.prefix}-cluster"
  resource_group_name = var.place.group
  location            = var.place.location
  tags                = var.place.tags
}

resource "azurerm_role_assignment" "network" {
  scope                = var.network_id
  role_definition_name = "Network Contributor"
  principal_id         = azurerm_user_assigned_identity.cluster.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_kubernetes_cluster" "this" {
  #checkov:skip=CKV_AZURE_117: Nodes keep nothing: system disks are ephemeral, encrypted at host, and gone with the pool.
  name                = var.place.prefix
  resource_group_name = var.place.group
  location            = var.place.location
  tags                = var.place.tags
  dns_prefix          = var.place.prefix
  sku_tier            = var.tier

  private_cluster_enabled           = true
  local_account_disabled            = true
  role_based_access_control_enabled = true
  oidc_issuer_enabled               = true
  workload_identity_enabled         = true
  azure_policy_enabled              = true
  automatic_upgrade_channel         = "patch"
  node_os_upgrade_channel           = "NodeImage"
  image_cleaner_enabled             = true
  image_cleaner_interval_hours      = 168

  azure_active_directory_role_based_access_control {
    azure_rbac_enabled     = true
    admin_group_object_ids = var.administrators
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.cluster.id]
  }

  default_node_pool {
    name                         = "system"
    vm_size                      = "Standard_D2ads_v5"
    auto_scaling_enabled         = true
    min_count                    = 1
    max_count                    = 3
    max_pods                     = 60
    os_disk_type                 = "Ephemeral"
    os_disk_size_gb              = 64
    os_sku                       = "AzureLinux"
    host_encryption_enabled      = true
    only_critical_addons_enabled = true
    vnet_subnet_id               = var.subnet_id
    temporary_name_for_rotation  = "systemnext"

    upgrade_settings {
      max_surge = "33%"
    }
  }

  network_profile {
    network_plugin      = "azure"
    network_plugin_mode = "overlay"
    network_data_plane  = "cilium"
    network_policy      = "cilium"
    outbound_type       = "userAssignedNATGateway"
    pod_cidr            = "10.244.0.0/16"
    service_cidr        = "10.245.0.0/16"
    dns_service_ip      = "10.245.0.10"
  }

  key_vault_secrets_provider {
    secret_rotation_enabled  = true
    secret_rotation_interval = "10m"
  }

  oms_agent {
    log_analytics_workspace_id      = var.workspace_id
    msi_auth_for_monitoring_enabled = true
  }

  # By day, when nobody waits for the night's run and somebody is there.
  maintenance_window_auto_upgrade {
    frequency   = "Weekly"
    interval    = 1
    day_of_week = "Tuesday"
    start_time  = "10:00"
    utc_offset  = "+00:00"
    duration    = 4
  }

  maintenance_window_node_os {
    frequency   = "Weekly"
    interval    = 1
    day_of_week = "Wednesday"
    start_time  = "10:00"
    utc_offset  = "+00:00"
    duration    = 4
  }

  # A network that the cluster may not yet change leaves its load balancers pending.
  depends_on = [azurerm_role_assignment.network]
}

resource "azurerm_kubernetes_cluster_node_pool" "this" {
  for_each              = var.pools
  name                  = each.key
  kubernetes_cluster_id = azurerm_kubernetes_cluster.this.id
  vm_size               = each.value.vm_size
  auto_scaling_enabled  = true
  min_count             = each.value.minimum
  max_count             = each.value.maximum
  max_pods              = 60
  os_disk_size_gb       = 128
  os_sku                = "AzureLinux"
  vnet_subnet_id        = var.subnet_id
  tags                  = var.place.tags

  host_encryption_enabled = true

  priority        = each.value.spot ? "Spot" : "Regular"
  eviction_policy = each.value.spot ? "Delete" : null
  spot_max_price  = each.value.spot ? -1 : null

  # What AKS itself puts on spot machines has to be said as well, or every plan would remove it.
  node_labels = merge(
    { (local.label) = each.key },
    each.value.spot ? { "kubernetes.azure.com/scalesetpriority" = "spot" } : {},
  )
  node_taints = concat(
    each.key == "services" ? [] : ["${local.label}=${each.key}:NoSchedule"],
    each.key == "gpu" ? ["sku=gpu:NoSchedule"] : [],
    each.value.spot ? ["kubernetes.azure.com/scalesetpriority=spot:NoSchedule"] : [],
  )
  gpu_driver = each.key == "gpu" ? "Install" : null

  # Machines of a spot pool have no upgrade of their own: they are replaced as they are taken away.
  dynamic "upgrade_settings" {
    for_each = each.value.spot ? [] : [1]

    content {
      max_surge = "33%"
    }
  }
}

# The kubelets pull, and nobody pushes from here.
resource "azurerm_role_assignment" "pull" {
  scope                = var.registry_id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_kubernetes_cluster.this.kubelet_identity[0].object_id
  principal_type       = "ServicePrincipal"
}

# The agent's own default would ship every namespace; this is what the alerts and a person read.
resource "azurerm_monitor_data_collection_rule" "logs" {
  name                = "${var.place.prefix}-logs"
  resource_group_name = var.place.group
  location            = var.place.location
  tags                = var.place.tags
  kind                = "Linux"

  data_sources {
    extension {
      name           = "containers"
      extension_name = "ContainerInsights"
      streams        = ["Microsoft-ContainerLogV2", "Microsoft-KubePodInventory"]
      extension_json = jsonencode({
        dataCollectionSettings = {
          interval               = "1m"
          namespaceFilteringMode = "Include"
          namespaces             = ["hyperrec"]
          enableContainerLogV2   = true
        }
      })
    }
  }

  destinations {
    log_analytics {
      name                  = "workspace"
      workspace_resource_id = var.workspace_id
    }
  }

  data_flow {
    streams      = ["Microsoft-ContainerLogV2", "Microsoft-KubePodInventory"]
    destinations = ["workspace"]
  }
}

resource "azurerm_monitor_data_collection_rule_association" "logs" {
  name                    = "${var.place.prefix}-logs"
  target_resource_id      = azurerm_kubernetes_cluster.this.id
  data_collection_rule_id = azurerm_monitor_data_collection_rule.logs.id
}
