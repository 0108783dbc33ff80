# Small, in one zone, spot machines; nothing here is promised to anybody.
environment = "dev"
location    = "westeurope"

image_version = "0.1.0"

dimensions          = 51
items               = 50000
slot_max_throughput = 1000
backup_tier         = "Continuous7Days"

storage_replication = "LRS"
run_days            = 60
soft_delete_days    = 7

cluster_tier = "Free"
pools = {
  services = { vm_size = "Standard_D2as_v5", minimum = 1, maximum = 2 }
  cpu      = { vm_size = "Standard_D8as_v5", minimum = 0, maximum = 2, spot = true }
  spark    = { vm_size = "Standard_D8as_v5", minimum = 0, maximum = 2, spot = true }
  gpu      = { vm_size = "Standard_NC4as_T4_v3", minimum = 0, maximum = 1, spot = true }
}

postgres = {
  sku            = "B_Standard_B1ms"
  storage_mb     = 32768
  backup_days    = 7
  zone_redundant = false
  geo_backup     = false
}

monthly_budget = 600
budget_start   = "2026-12-01T00:00:00Z"
