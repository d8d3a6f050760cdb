output "container" {
  description = "The sidecar's container definition."
  # Without what is null: ECS refuses a null where it wants an object.
  value = { for key, value in local.container : key => value if value != null }
}

output "application" {
  description = "`dependsOn`, `environment` and `secrets` to add to the application's container definition."
  value       = local.application
}
