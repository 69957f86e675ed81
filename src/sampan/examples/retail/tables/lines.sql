-- One row per line of an order or a cancellation. The tills recorded some lines twice within one order
-- (same article, quantity, price and minute): such a line counts once, and `recorded` says how often it came.
-- Prices are DECIMAL, so that sums do not depend on the order in which a computer adds.
-- A line is made of events of its own minute, so that a new or late one changes no other month:
-- incremental: by month of entered_at
WITH sent AS (
    SELECT order_id, false AS cancelled, customer_id, country, stock_code, description, quantity, unit_price,
           _time, _known_at
    FROM order_line
    UNION ALL
    SELECT order_id, true, customer_id, country, stock_code, description, quantity, unit_price,
           _time, _known_at
    FROM order_cancelled
)
SELECT
    order_id,
    cancelled,
    customer_id,
    country,
    stock_code,
    description,
    CASE
        WHEN regexp_matches(stock_code, '^([0-9]{5}|DCGS)') THEN 'goods'
        WHEN stock_code IN ('POST', 'DOT', 'C2') THEN 'postage'
        WHEN starts_with(stock_code, 'gift_') THEN 'voucher'
        ELSE 'correction'
    END AS kind,
    quantity,
    CAST(unit_price AS DECIMAL(12, 3)) AS price,
    CAST(quantity * CAST(unit_price AS DECIMAL(12, 3)) AS DECIMAL(18, 3)) AS value,
    _time AS entered_at,
    min(_known_at) AS known_at,
    count(*) AS recorded
FROM sent
GROUP BY ALL
