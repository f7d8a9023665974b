echo "script {{ ds }}"
