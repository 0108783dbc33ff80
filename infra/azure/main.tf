# One environment of hyperrec: everything in one resource group.

locals {
  prefix = "${var.name}-${var.environment}"
  # Accounts whose name is a public address: small letters and digits, 24 at most.
  account = "${var.name}${var.environment}${var.suffix}"
  tags = {
    project     = var.name
    environment = var.environment
    owner       = var.owner
    managed-by  = "terraform"
  }
  place = {
    group    = azurerm_resource_group.this.name
    location = azurerm_resource_group.this.location
    prefix   = local.prefix
    account  = local.account
    tags     = local.tags
  }
}

data "azurerm_client_config" "current" {}

resource "azurerm_resource_group" "this" {
  name     = local.prefix
  location = var.location
  tags     = local.tags
}

module "network" {
  source        = "./modules/network"
  place         = local.place
  address_space = var.address_space
}

module "monitoring" {
  source         = "./modules/monitoring"
  place          = local.place
  group_id       = azurerm_resource_group.this.id
  owner          = var.owner
  monthly_budget = var.monthly_budget
  budget_start   = var.budget_start
  cosmos_id      = module.cosmos.account_id
  storage_id     = module.storage.account_id
  postgres_id    = module.prefect.server_id
  cluster_id     = module.cluster.id
}

module "storage" {
  source              = "./modules/storage"
  place               = local.place
  replication         = var.storage_replication
  run_days            = var.run_days
  compacted_idle_days = var.compacted_idle_days
  soft_delete_days    = var.soft_delete_days
  subnet_id           = module.network.endpoints_subnet_id
  zones               = module.network.zones
  workspace_id        = module.monitoring.workspace_id
}

module "cosmos" {
  source              = "./modules/cosmos"
  place               = local.place
  dimensions          = var.dimensions
  items               = var.items
  slot_max_throughput = var.slot_max_throughput
  backup_tier         = var.backup_tier
  zone_redundant      = var.environment == "prod"
  subnet_id           = module.network.endpoints_subnet_id
  zones               = module.network.zones
  workspace_id        = module.monitoring.workspace_id
}

module "vault" {
  source       = "./modules/vault"
  place        = local.place
  tenant_id    = data.azurerm_client_config.current.tenant_id
  subnet_id    = module.network.endpoints_subnet_id
  zones        = module.network.zones
  workspace_id = module.monitoring.workspace_id
}

module "registry" {
  source    = "./modules/registry"
  place     = local.place
  subnet_id = module.network.endpoints_subnet_id
  zones     = module.network.zones
}

module "cluster" {
  source         = "./modules/cluster"
  place          = local.place
  tier           = var.cluster_tier
  pools          = var.pools
  administrators = var.administrators
  subnet_id      = module.network.nodes_subnet_id
  network_id     = module.network.id
  registry_id    = module.registry.id
  workspace_id   = module.monitoring.workspace_id
}

module "prefect" {
  source           = "./modules/prefect"
  place            = local.place
  postgres         = var.postgres
  password_version = var.password_version
  subnet_id        = module.network.postgres_subnet_id
  zone_id          = module.network.zones["postgres"]
  vault_id         = module.vault.id
  workspace_id     = module.monitoring.workspace_id
}

module "identity" {
  source              = "./modules/identity"
  place               = local.place
  issuer              = module.cluster.issuer
  raw_container_id    = module.storage.container_ids["raw"]
  runs_container_id   = module.storage.container_ids["runs"]
  cosmos_account_id   = module.cosmos.account_id
  cosmos_account_name = module.cosmos.account_name
  database_scope      = module.cosmos.database_scope
  vault_id            = module.vault.id
  readers             = var.readers
}
