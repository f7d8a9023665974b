"""Amazon Web Services: clients of any service by connection, and S3. Over the library boto3 (`opskit[s3]`)."""
