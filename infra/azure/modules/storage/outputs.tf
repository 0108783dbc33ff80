output "account_id" {
  value = azurerm_storage_account.this.id
}

output "url" {
  value = trimsuffix(azurerm_storage_account.this.primary_blob_endpoint, "/")
}

output "container_ids" {
  value = { for name, container in azurerm_storage_container.this : name => container.id }
}
