output "account_id" {
  value = azurerm_cosmosdb_account.this.id
}

output "account_name" {
  value = azurerm_cosmosdb_account.this.name
}

output "endpoint" {
  value = trimsuffix(azurerm_cosmosdb_account.this.endpoint, "/")
}

output "database_scope" {
  description = "What roles of the data plane are given for: this database and no other."
  value       = "${azurerm_cosmosdb_account.this.id}/dbs/${azurerm_cosmosdb_sql_database.this.name}"
}
