# The nightly run that services rely on: three zones, a month of backups, no machine that is taken away.
environment = "prod"
location    = "westeurope"

image_version = "0.1.0"

dimensions          = 51
items               = 150000
slot_max_throughput = 4000
backup_tier         = "Continuous30Days"

storage_replication = "GZRS"
run_days            = 180
soft_delete_days    = 30

cluster_tier = "Standard"
pools = {
  services = { vm_size = "Standard_D2as_v5", minimum = 2, maximum = 3 }
  cpu      = { vm_size = "Standard_D8as_v5", minimum = 0, maximum = 3 }
  spark    = { vm_size = "Standard_D8as_v5", minimum = 0, maximum = 4 }
  gpu      = { vm_size = "Standard_NC8as_T4_v3", minimum = 0, maximum = 1 }
}

postgres = {
  sku            = "GP_Standard_D2ds_v5"
  storage_mb     = 32768
  backup_days    = 35
  zone_redundant = true
  geo_backup     = true
}

monthly_budget = 3000
budget_start   = "2026-12-01T00:00:00Z"
