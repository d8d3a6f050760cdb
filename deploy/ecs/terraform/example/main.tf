# A database whose password RDS keeps in Secrets Manager and changes every seven days, and a service that does not
# notice.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
    random = {
      source  = "hashicorp/random"
      version = ">= 3.5"
    }
  }
}

variable "cluster_arn" { type = string }
variable "subnets" { type = list(string) }
variable "security_groups" { type = list(string) }
variable "db_subnet_group" { type = string }
variable "pgswivel_image" { type = string }
variable "application_image" { type = string }

resource "aws_db_instance" "orders" {
  identifier_prefix    = "orders-"
  engine               = "postgres"
  engine_version       = "17"
  instance_class       = "db.t4g.micro"
  allocated_storage    = 20
  storage_encrypted    = true
  db_name              = "orders"
  username             = "orders"
  db_subnet_group_name = var.db_subnet_group
  skip_final_snapshot  = true

  # RDS makes the password, keeps it in Secrets Manager and changes it every seven days. There is none in this file, and
  # none in the state.
  manage_master_user_password = true
}

# The password between the application and pgswivel, which opens nothing but the task's own loopback.
resource "random_password" "local" {
  length = 40
  # Some applications put it into a URL.
  special = false
}

resource "aws_ssm_parameter" "local" {
  name  = "/orders/local-password"
  type  = "SecureString"
  value = random_password.local.result
}

resource "aws_cloudwatch_log_group" "orders" {
  name              = "/ecs/orders"
  retention_in_days = 30
}

module "orders" {
  source = "../"

  name           = "orders"
  pgswivel_image = var.pgswivel_image
  # RDS's certificate authority is not among the public roots. `/rds.pem` is the bundle of the region, copied into the
  # image:
  #   FROM pgswivel
  #   COPY eu-west-1-bundle.pem /rds.pem
  upstream           = "postgres://${aws_db_instance.orders.endpoint}/orders?sslmode=verify-full&sslrootcert=/rds.pem"
  database           = "orders"
  secret_arn         = aws_db_instance.orders.master_user_secret[0].secret_arn
  local_password_arn = aws_ssm_parameter.local.arn
  log_group          = aws_cloudwatch_log_group.orders.name

  application = {
    name        = "orders"
    image       = var.application_image
    stopTimeout = 30
  }
}

resource "aws_ecs_service" "orders" {
  name            = "orders"
  cluster         = var.cluster_arn
  task_definition = module.orders.task_definition_arn
  launch_type     = "FARGATE"
  desired_count   = 2

  network_configuration {
    subnets         = var.subnets
    security_groups = var.security_groups
  }
}
