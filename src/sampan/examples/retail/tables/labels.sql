-- Did the customer order again within 30 days? Nobody knows before the 30 days are over: an order gets its label
-- only when the log itself has come that far.
WITH now_known AS (
    SELECT max(known_at) AS as_of FROM lines
)
SELECT
    order_id,
    ordered_at + INTERVAL 30 DAYS AS label_known_at,
    count(*) OVER (
        PARTITION BY customer_id ORDER BY ordered_at
        RANGE BETWEEN INTERVAL 1 MICROSECOND FOLLOWING AND INTERVAL 30 DAYS FOLLOWING
    ) > 0 AS returned
FROM orders, now_known
QUALIFY ordered_at + INTERVAL 30 DAYS <= as_of
