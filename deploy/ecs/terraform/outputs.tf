output "task_definition_arn" {
  description = "For the service."
  value       = aws_ecs_task_definition.this.arn
}

output "task_role_arn" {
  description = "To allow the application what it needs besides."
  value       = aws_iam_role.task.arn
}
