output "id" {
  value = azurerm_container_registry.this.id
}

output "server" {
  value = azurerm_container_registry.this.login_server
}
