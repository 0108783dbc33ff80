output "server_id" {
  value = azurerm_postgresql_flexible_server.this.id
}
