SELECT '{{ ds }}', {{ double(21) }}, '{{ "abc" | shout }}' FROM {{ params.table }};
