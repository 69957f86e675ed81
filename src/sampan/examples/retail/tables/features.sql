-- What was known about a customer at the moment of each order. Every window ends a moment before the order:
-- nothing that came later, and nothing of another order in the same minute, may enter.
WITH history AS (
    SELECT
        order_id,
        count(*) OVER earlier AS orders_before,
        sum(goods) OVER earlier AS spent_before,
        min(ordered_at) OVER earlier AS first_at,
        max(ordered_at) OVER earlier AS last_at,
        count(*) OVER quarter AS orders_90_days
    FROM orders
    WINDOW
        earlier AS (PARTITION BY customer_id ORDER BY ordered_at
                    RANGE BETWEEN UNBOUNDED PRECEDING AND INTERVAL 1 MICROSECOND PRECEDING),
        quarter AS (PARTITION BY customer_id ORDER BY ordered_at
                    RANGE BETWEEN INTERVAL 90 DAYS PRECEDING AND INTERVAL 1 MICROSECOND PRECEDING)
),
cancelled AS (
    SELECT orders.order_id, count(DISTINCT lines.order_id) AS cancellations_before
    FROM orders
    JOIN lines ON lines.cancelled AND lines.customer_id = orders.customer_id AND lines.entered_at < orders.ordered_at
    GROUP BY orders.order_id
)
SELECT
    orders.order_id,
    orders.customer_id,
    orders.ordered_at,
    history.orders_before,
    -- To see a leak caught, make the next line part of the query: it counts the orders that are still to come.
    -- count(*) OVER (PARTITION BY orders.customer_id) AS lifetime_orders,
    history.orders_90_days,
    CAST(coalesce(history.spent_before, 0) AS DOUBLE) AS spent_before,
    CAST(history.spent_before AS DOUBLE) / history.orders_before AS mean_basket,
    epoch(orders.ordered_at - history.last_at) / 86400 AS days_since_last,
    epoch(orders.ordered_at - history.first_at) / 86400 AS days_known,
    epoch(history.last_at - history.first_at) / 86400 / nullif(history.orders_before - 1, 0) AS mean_gap_days,
    coalesce(cancelled.cancellations_before, 0) AS cancellations_before,
    orders.lines,
    orders.pieces,
    CAST(orders.goods AS DOUBLE) AS goods,
    CAST(orders.charges AS DOUBLE) AS charges,
    hour(orders.ordered_at) AS hour,
    isodow(orders.ordered_at) AS weekday,
    CAST(orders.country <> 'United Kingdom' AS INTEGER) AS export
FROM orders
JOIN history USING (order_id)
LEFT JOIN cancelled USING (order_id)
