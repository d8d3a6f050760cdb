# An ECS task with pgswivel beside the application, and the two roles it needs, with nothing in them that it does not.

data "aws_region" "this" {}

module "sidecar" {
  source = "./sidecar"

  image              = var.pgswivel_image
  upstream           = var.upstream
  database           = var.database
  secret_arn         = var.secret_arn
  local_password_arn = var.local_password_arn
  log_group          = var.log_group
  region             = data.aws_region.this.name
}

locals {
  # The application's own settings stay; its way to the database is added.
  application = merge(var.application, {
    essential   = true
    dependsOn   = concat(try(var.application.dependsOn, []), module.sidecar.application.dependsOn)
    environment = concat(try(var.application.environment, []), module.sidecar.application.environment)
    secrets     = concat(try(var.application.secrets, []), module.sidecar.application.secrets)
  })
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  # One network namespace: pgswivel's 127.0.0.1 is the application's.
  network_mode          = "awsvpc"
  cpu                   = var.cpu
  memory                = var.memory
  task_role_arn         = aws_iam_role.task.arn
  execution_role_arn    = aws_iam_role.execution.arn
  container_definitions = jsonencode([module.sidecar.container, local.application])
}

data "aws_iam_policy_document" "ecs_tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

# What the running containers may do. The application shares it, so it is worth keeping small.
resource "aws_iam_role" "task" {
  name_prefix        = "${var.name}-task-"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

data "aws_iam_policy_document" "task" {
  statement {
    sid = "ReadTheCredential"
    # DescribeSecret tells whether anything changed, and which stage is where; it is what is called every `poll`.
    # GetSecretValue is called once for each new version.
    actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
    resources = [var.secret_arn]
  }

  dynamic "statement" {
    for_each = var.secret_kms_key_arn == null ? [] : [var.secret_kms_key_arn]
    content {
      sid       = "DecryptIt"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
      # Only on behalf of Secrets Manager, and only for this secret: the key itself stays out of the containers' reach.
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["secretsmanager.${data.aws_region.this.name}.amazonaws.com"]
      }
      condition {
        test     = "StringEquals"
        variable = "kms:EncryptionContext:SecretARN"
        values   = [var.secret_arn]
      }
    }
  }
}

resource "aws_iam_role_policy" "task" {
  name   = "read-the-credential"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.task.json
}

# What ECS itself does before the containers run: pull images, write logs, read the local password.
resource "aws_iam_role" "execution" {
  name_prefix        = "${var.name}-execution-"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "ReadTheLocalPassword"
    actions   = ["ssm:GetParameters"]
    resources = [var.local_password_arn]
  }

  dynamic "statement" {
    for_each = var.local_password_kms_key_arn == null ? [] : [var.local_password_kms_key_arn]
    content {
      sid       = "DecryptIt"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "read-the-local-password"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}
