{% include "sql/query.sql" %} -- {{ task.task_id }}
