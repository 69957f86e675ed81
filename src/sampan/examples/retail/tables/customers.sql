-- One row per customer, as known now.
SELECT
    customer_id,
    min(country) AS country,
    min(ordered_at) AS first_order_at,
    max(ordered_at) AS last_order_at,
    count(*) AS orders,
    CAST(sum(goods) AS DECIMAL(18, 3)) AS goods
FROM orders
GROUP BY customer_id
