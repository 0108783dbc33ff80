# `terraform output -json > outputs.json` is what `hyperrec deploy --from outputs.json` and
# `python -m infra.kubernetes --from outputs.json` read: nothing is copied by hand.

output "prefect_api_url" {
  description = "The Prefect server's API, inside the network."
  value       = "http://${module.network.prefect_host}/api"
}

output "storage_account_url" {
  description = "AZURE_STORAGE_ACCOUNT_URL of the jobs."
  value       = module.storage.url
}

output "input_url" {
  description = "Where the retailer's interactions lie."
  value       = "az://raw"
}

output "runs_url" {
  description = "HYPERREC_RUNS of the jobs."
  value       = "az://runs"
}

output "cosmos_endpoint" {
  description = "COSMOS_ENDPOINT of the jobs and of the services that read."
  value       = module.cosmos.endpoint
}

output "work_pool_type" {
  description = "Type of the work pools hyperrec-cpu and hyperrec-gpu."
  value       = "kubernetes"
}

output "image" {
  description = "Image of the flows, and of Spark's executors."
  value       = "${module.registry.server}/hyperrec-preprocess:${var.image_version}"
}

output "images" {
  description = "Every image by its target in docker/Dockerfile."
  value = {
    for target in ["preprocess", "train", "export", "worker"] :
    target => "${module.registry.server}/hyperrec-${target}:${var.image_version}"
  }
}

output "registry" {
  description = "Host of the registry that the release workflow pushes to."
  value       = module.registry.server
}

output "cluster" {
  description = "Name and resource group, as `az aks command invoke` wants them."
  value       = { name = module.cluster.name, resource_group = azurerm_resource_group.this.name }
}

output "identities" {
  description = "Client id of each service account's identity."
  value       = module.identity.client_ids
}

output "tenant_id" {
  description = "The tenant that workload identities sign in to."
  value       = data.azurerm_client_config.current.tenant_id
}

output "vault_name" {
  description = "The vault of the Prefect server's secrets."
  value       = module.vault.name
}

output "prefect_address" {
  description = "Private address that the Prefect server's service takes."
  value       = module.network.prefect_address
}
