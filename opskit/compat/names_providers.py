"""Alias table: operators and hooks that reach outside, and what provider packages share."""

NAMES = """
opskit.providers.amazon.base:AwsBaseHook
    airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook airflow.contrib.hooks.aws_hook.AwsHook
opskit.providers.amazon.base:AwsBaseOperator
    airflow.providers.amazon.aws.operators.base_aws.AwsBaseOperator
opskit.providers.amazon.base:AwsGenericHook
    airflow.providers.amazon.aws.hooks.base_aws.AwsGenericHook
opskit.providers.amazon.base:aws_template_fields
    airflow.providers.amazon.aws.utils.mixins.aws_template_fields
opskit.providers.amazon.s3_hook:S3Hook
    airflow.providers.amazon.aws.hooks.s3.S3Hook airflow.hooks.S3_hook.S3Hook airflow.hooks.S3Hook
    airflow.providers.amazon.aws.operators.s3.S3Hook airflow.providers.amazon.aws.sensors.s3.S3Hook
opskit.providers.amazon.s3_operators:S3CopyObjectOperator
    airflow.providers.amazon.aws.operators.s3.S3CopyObjectOperator
    airflow.providers.amazon.aws.operators.s3_copy_object.S3CopyObjectOperator
    airflow.contrib.operators.s3_copy_object_operator.S3CopyObjectOperator
opskit.providers.amazon.s3_operators:S3CreateBucketOperator
    airflow.providers.amazon.aws.operators.s3_bucket.S3CreateBucketOperator
    airflow.providers.amazon.aws.operators.s3.S3CreateBucketOperator
opskit.providers.amazon.s3_operators:S3CreateObjectOperator
    airflow.providers.amazon.aws.operators.s3.S3CreateObjectOperator
opskit.providers.amazon.s3_operators:S3DeleteBucketOperator
    airflow.providers.amazon.aws.operators.s3_bucket.S3DeleteBucketOperator
    airflow.providers.amazon.aws.operators.s3.S3DeleteBucketOperator
opskit.providers.amazon.s3_operators:S3DeleteObjectsOperator
    airflow.providers.amazon.aws.operators.s3.S3DeleteObjectsOperator
    airflow.providers.amazon.aws.operators.s3_delete_objects.S3DeleteObjectsOperator
    airflow.contrib.operators.s3_delete_objects_operator.S3DeleteObjectsOperator
opskit.providers.amazon.s3_operators:S3FileTransformOperator
    airflow.providers.amazon.aws.operators.s3.S3FileTransformOperator
    airflow.providers.amazon.aws.operators.s3_file_transform.S3FileTransformOperator
    airflow.operators.s3_file_transform_operator.S3FileTransformOperator
opskit.providers.amazon.s3_operators:S3ListOperator
    airflow.providers.amazon.aws.operators.s3.S3ListOperator
    airflow.providers.amazon.aws.operators.s3_list.S3ListOperator
    airflow.contrib.operators.s3_list_operator.S3ListOperator
opskit.providers.amazon.s3_operators:S3ListPrefixesOperator
    airflow.providers.amazon.aws.operators.s3.S3ListPrefixesOperator
    airflow.providers.amazon.aws.operators.s3_list_prefixes.S3ListPrefixesOperator
opskit.providers.amazon.s3_operators:S3ReadObjectOperator
    airflow.providers.amazon.aws.operators.s3.S3ReadObjectOperator
opskit.providers.amazon.s3_sensors:S3KeySensor
    airflow.providers.amazon.aws.sensors.s3.S3KeySensor airflow.providers.amazon.aws.sensors.s3_key.S3KeySensor
    airflow.sensors.s3_key_sensor.S3KeySensor airflow.sensors.S3KeySensor
opskit.providers.amazon.s3_sensors:S3KeysUnchangedSensor
    airflow.providers.amazon.aws.sensors.s3.S3KeysUnchangedSensor
    airflow.providers.amazon.aws.sensors.s3_keys_unchanged.S3KeysUnchangedSensor
opskit.providers.amazon.s3_sensors:S3PrefixSensor
    airflow.providers.amazon.aws.sensors.s3.S3PrefixSensor airflow.providers.amazon.aws.sensors.s3_prefix.S3PrefixSensor
    airflow.sensors.s3_prefix_sensor.S3PrefixSensor
opskit.providers.amazon.s3_transfers:LocalFilesystemToS3Operator
    airflow.providers.amazon.aws.transfers.local_to_s3.LocalFilesystemToS3Operator
opskit.providers.amazon.s3_transfers:S3ToSFTPOperator
    airflow.providers.amazon.aws.transfers.s3_to_sftp.S3ToSFTPOperator
    airflow.contrib.operators.s3_to_sftp_operator.S3ToSFTPOperator
opskit.providers.amazon.s3_transfers:SFTPToS3Operator
    airflow.providers.amazon.aws.transfers.sftp_to_s3.SFTPToS3Operator
    airflow.contrib.operators.sftp_to_s3_operator.SFTPToS3Operator
opskit.providers.docker:DockerContainerFailedException
    airflow.providers.docker.exceptions.DockerContainerFailedException
opskit.providers.docker:DockerContainerFailedSkipException
    airflow.providers.docker.exceptions.DockerContainerFailedSkipException
opskit.providers.docker:DockerHook
    airflow.providers.docker.hooks.docker.DockerHook airflow.hooks.docker_hook.DockerHook
opskit.providers.docker:DockerOperator
    airflow.providers.docker.operators.docker.DockerOperator airflow.operators.docker_operator.DockerOperator
    airflow.operators.DockerOperator
opskit.providers.ftp:FTPFileTransmitOperator
    airflow.providers.ftp.operators.ftp.FTPFileTransmitOperator
opskit.providers.ftp:FTPHook
    airflow.providers.ftp.hooks.ftp.FTPHook airflow.contrib.hooks.ftp_hook.FTPHook
opskit.providers.ftp:FTPOperation
    airflow.providers.ftp.operators.ftp.FTPOperation
opskit.providers.ftp:FTPSFileTransmitOperator
    airflow.providers.ftp.operators.ftp.FTPSFileTransmitOperator
opskit.providers.ftp:FTPSHook
    airflow.providers.ftp.hooks.ftp.FTPSHook airflow.contrib.hooks.ftp_hook.FTPSHook
opskit.providers.ftp:FTPSSensor
    airflow.providers.ftp.sensors.ftp.FTPSSensor airflow.contrib.sensors.ftp_sensor.FTPSSensor
opskit.providers.ftp:FTPSensor
    airflow.providers.ftp.sensors.ftp.FTPSensor airflow.contrib.sensors.ftp_sensor.FTPSensor
opskit.providers.google_sheets:GSheetsHook
    airflow.providers.google.suite.hooks.sheets.GSheetsHook
opskit.providers.google_sheets:GoogleSheetsCreateSpreadsheetOperator
    airflow.providers.google.suite.operators.sheets.GoogleSheetsCreateSpreadsheetOperator
opskit.providers.http:HttpHook
    airflow.providers.http.hooks.http.HttpHook airflow.hooks.http_hook.HttpHook airflow.hooks.HttpHook
opskit.providers.http:HttpOperator
    airflow.providers.http.operators.http.HttpOperator airflow.providers.http.operators.http.SimpleHttpOperator
    airflow.operators.http_operator.SimpleHttpOperator airflow.operators.SimpleHttpOperator
opskit.providers.http:HttpSensor
    airflow.providers.http.sensors.http.HttpSensor airflow.sensors.http_sensor.HttpSensor airflow.sensors.HttpSensor
opskit.providers.kubernetes.hook:KubernetesHook
    airflow.providers.cncf.kubernetes.hooks.kubernetes.KubernetesHook
opskit.providers.kubernetes.objects:Secret
    airflow.providers.cncf.kubernetes.secret.Secret airflow.kubernetes.secret.Secret
    airflow.contrib.kubernetes.secret.Secret
opskit.providers.kubernetes.pod:KubernetesPodOperator
    airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperator
    airflow.providers.cncf.kubernetes.operators.kubernetes_pod.KubernetesPodOperator
    airflow.contrib.operators.kubernetes_pod_operator.KubernetesPodOperator
opskit.providers.kubernetes.pod:OnFinishAction
    airflow.providers.cncf.kubernetes.operators.pod.OnFinishAction
    airflow.providers.cncf.kubernetes.utils.pod_manager.OnFinishAction
opskit.providers.kubernetes.pod:PodPhase
    airflow.providers.cncf.kubernetes.operators.pod.PodPhase
    airflow.providers.cncf.kubernetes.utils.pod_manager.PodPhase
opskit.providers.optional:AirflowOptionalProviderFeatureException
    airflow.exceptions.AirflowOptionalProviderFeatureException
    airflow.providers.common.compat.sdk.AirflowOptionalProviderFeatureException
opskit.providers.sftp:SFTPHook
    airflow.providers.sftp.hooks.sftp.SFTPHook airflow.contrib.hooks.sftp_hook.SFTPHook
opskit.providers.sftp:SFTPOperation
    airflow.providers.sftp.operators.sftp.SFTPOperation airflow.contrib.operators.sftp_operator.SFTPOperation
    airflow.providers.sftp.hooks.sftp.SFTPOperation
opskit.providers.sftp:SFTPOperator
    airflow.providers.sftp.operators.sftp.SFTPOperator airflow.contrib.operators.sftp_operator.SFTPOperator
opskit.providers.sftp:SFTPSensor
    airflow.providers.sftp.sensors.sftp.SFTPSensor airflow.contrib.sensors.sftp_sensor.SFTPSensor
opskit.providers.slack.hooks:SlackHook
    airflow.providers.slack.hooks.slack.SlackHook airflow.hooks.slack_hook.SlackHook
opskit.providers.slack.hooks:SlackWebhookHook
    airflow.providers.slack.hooks.slack_webhook.SlackWebhookHook
    airflow.contrib.hooks.slack_webhook_hook.SlackWebhookHook
opskit.providers.slack.notifiers:SlackNotifier
    airflow.providers.slack.notifications.slack.SlackNotifier
    airflow.providers.slack.notifications.slack_notifier.SlackNotifier
    airflow.providers.slack.notifications.slack.send_slack_notification
    airflow.providers.slack.notifications.slack_notifier.send_slack_notification
opskit.providers.slack.notifiers:SlackWebhookNotifier
    airflow.providers.slack.notifications.slack_webhook.SlackWebhookNotifier
    airflow.providers.slack.notifications.slack_webhook.send_slack_webhook_notification
opskit.providers.slack.operators:SlackAPIFileOperator
    airflow.providers.slack.operators.slack.SlackAPIFileOperator
opskit.providers.slack.operators:SlackAPIOperator
    airflow.providers.slack.operators.slack.SlackAPIOperator airflow.operators.slack_operator.SlackAPIOperator
opskit.providers.slack.operators:SlackAPIPostOperator
    airflow.providers.slack.operators.slack.SlackAPIPostOperator airflow.operators.slack_operator.SlackAPIPostOperator
    airflow.operators.SlackAPIPostOperator
opskit.providers.slack.operators:SlackWebhookOperator
    airflow.providers.slack.operators.slack_webhook.SlackWebhookOperator
    airflow.contrib.operators.slack_webhook_operator.SlackWebhookOperator
opskit.providers.smtp:EmailOperator
    airflow.providers.smtp.operators.smtp.EmailOperator
opskit.providers.smtp:SmtpHook
    airflow.providers.smtp.hooks.smtp.SmtpHook
opskit.providers.smtp:SmtpNotifier
    airflow.providers.smtp.notifications.smtp.SmtpNotifier
opskit.providers.smtp:send_smtp_notification
    airflow.providers.smtp.notifications.smtp.send_smtp_notification
opskit.providers.spark:SparkSubmitHook
    airflow.providers.apache.spark.hooks.spark_submit.SparkSubmitHook
    airflow.contrib.hooks.spark_submit_hook.SparkSubmitHook
opskit.providers.spark:SparkSubmitOperator
    airflow.providers.apache.spark.operators.spark_submit.SparkSubmitOperator
    airflow.contrib.operators.spark_submit_operator.SparkSubmitOperator
opskit.providers.sql.checks:SQLCheckOperator
    airflow.providers.common.sql.operators.sql.SQLCheckOperator airflow.operators.sql.SQLCheckOperator
    airflow.operators.check_operator.CheckOperator airflow.operators.check_operator.SQLCheckOperator
opskit.providers.sql.checks:SQLIntervalCheckOperator
    airflow.providers.common.sql.operators.sql.SQLIntervalCheckOperator airflow.operators.sql.SQLIntervalCheckOperator
    airflow.operators.check_operator.IntervalCheckOperator airflow.operators.check_operator.SQLIntervalCheckOperator
opskit.providers.sql.checks:SQLThresholdCheckOperator
    airflow.providers.common.sql.operators.sql.SQLThresholdCheckOperator airflow.operators.sql.SQLThresholdCheckOperator
    airflow.operators.check_operator.ThresholdCheckOperator airflow.operators.check_operator.SQLThresholdCheckOperator
opskit.providers.sql.checks:SQLValueCheckOperator
    airflow.providers.common.sql.operators.sql.SQLValueCheckOperator airflow.operators.sql.SQLValueCheckOperator
    airflow.operators.check_operator.ValueCheckOperator airflow.operators.check_operator.SQLValueCheckOperator
opskit.providers.sql.column_checks:SQLColumnCheckOperator
    airflow.providers.common.sql.operators.sql.SQLColumnCheckOperator airflow.operators.sql.SQLColumnCheckOperator
opskit.providers.sql.column_checks:SQLTableCheckOperator
    airflow.providers.common.sql.operators.sql.SQLTableCheckOperator airflow.operators.sql.SQLTableCheckOperator
opskit.providers.sql.handlers:fetch_all_handler
    airflow.providers.common.sql.hooks.sql.fetch_all_handler
    airflow.providers.common.sql.hooks.handlers.fetch_all_handler
opskit.providers.sql.handlers:fetch_one_handler
    airflow.providers.common.sql.hooks.sql.fetch_one_handler
    airflow.providers.common.sql.hooks.handlers.fetch_one_handler
opskit.providers.sql.handlers:get_row_count
    airflow.providers.common.sql.hooks.handlers.get_row_count
opskit.providers.sql.handlers:return_single_query_results
    airflow.providers.common.sql.hooks.sql.return_single_query_results
    airflow.providers.common.sql.hooks.handlers.return_single_query_results
opskit.providers.sql.hook:DbApiHook
    airflow.providers.common.sql.hooks.sql.DbApiHook airflow.hooks.dbapi.DbApiHook airflow.hooks.dbapi_hook.DbApiHook
opskit.providers.sql.mysql:MySqlHook
    airflow.providers.mysql.hooks.mysql.MySqlHook airflow.hooks.mysql_hook.MySqlHook airflow.hooks.MySqlHook
    airflow.providers.mysql.operators.mysql.MySqlHook
opskit.providers.sql.operators:BaseSQLOperator
    airflow.providers.common.sql.operators.sql.BaseSQLOperator airflow.operators.sql.BaseSQLOperator
opskit.providers.sql.operators:BranchSQLOperator
    airflow.providers.common.sql.operators.sql.BranchSQLOperator airflow.operators.sql.BranchSQLOperator
    airflow.operators.sql_branch_operator.BranchSqlOperator airflow.operators.sql_branch_operator.BranchSQLOperator
opskit.providers.sql.operators:MsSqlOperator
    airflow.providers.microsoft.mssql.operators.mssql.MsSqlOperator airflow.operators.mssql_operator.MsSqlOperator
opskit.providers.sql.operators:MySqlOperator
    airflow.providers.mysql.operators.mysql.MySqlOperator airflow.operators.mysql_operator.MySqlOperator
    airflow.operators.MySqlOperator
opskit.providers.sql.operators:PostgresOperator
    airflow.providers.postgres.operators.postgres.PostgresOperator airflow.operators.postgres_operator.PostgresOperator
    airflow.operators.postgres.PostgresOperator airflow.operators.PostgresOperator
opskit.providers.sql.operators:SQLExecuteQueryOperator
    airflow.providers.common.sql.operators.sql.SQLExecuteQueryOperator airflow.operators.sql.SQLExecuteQueryOperator
opskit.providers.sql.operators:SqliteOperator
    airflow.providers.sqlite.operators.sqlite.SqliteOperator airflow.operators.sqlite_operator.SqliteOperator
    airflow.operators.SqliteOperator
opskit.providers.sql.operators:truth
    airflow.providers.common.sql.operators.sql._parse_boolean airflow.operators.sql.parse_boolean
opskit.providers.sql.postgres:PostgresHook
    airflow.providers.postgres.hooks.postgres.PostgresHook airflow.hooks.postgres_hook.PostgresHook
    airflow.hooks.postgres.PostgresHook airflow.hooks.PostgresHook
    airflow.providers.postgres.operators.postgres.PostgresHook airflow.operators.postgres_operator.PostgresHook
opskit.providers.sql.sensor:SqlSensor
    airflow.providers.common.sql.sensors.sql.SqlSensor airflow.sensors.sql.SqlSensor
    airflow.sensors.sql_sensor.SqlSensor airflow.sensors.SqlSensor
opskit.providers.sql.sqlite:SqliteHook
    airflow.providers.sqlite.hooks.sqlite.SqliteHook airflow.hooks.sqlite_hook.SqliteHook airflow.hooks.SqliteHook
opskit.providers.sql.transfer:GenericTransfer
    airflow.providers.common.sql.operators.generic_transfer.GenericTransfer
    airflow.operators.generic_transfer.GenericTransfer airflow.operators.GenericTransfer
opskit.providers.sql.transfer:SQLBulkLoadOperator
    airflow.providers.common.sql.operators.sql.SQLBulkLoadOperator
opskit.providers.sql.transfer:SQLInsertRowsOperator
    airflow.providers.common.sql.operators.sql.SQLInsertRowsOperator
opskit.providers.ssh:SSHHook
    airflow.providers.ssh.hooks.ssh.SSHHook airflow.contrib.hooks.ssh_hook.SSHHook airflow.hooks.SSHHook
    airflow.providers.ssh.operators.ssh.SSHHook
opskit.providers.ssh:SSHOperator
    airflow.providers.ssh.operators.ssh.SSHOperator airflow.contrib.operators.ssh_operator.SSHOperator
"""
