-- One row per order that a customer placed and has to pay for. Guests cannot be recognised when they return, and
-- cancellations are no orders: both stay in `lines`. An order counts from its last line on: before, it was not whole.
SELECT
    order_id,
    customer_id,
    min(country) AS country,
    max(entered_at) AS ordered_at,
    max(known_at) AS known_at,
    count(*) AS lines,
    CAST(sum(quantity) AS BIGINT) AS pieces,
    CAST(sum(value) FILTER (kind = 'goods') AS DECIMAL(18, 3)) AS goods,
    CAST(coalesce(sum(value) FILTER (kind <> 'goods'), 0) AS DECIMAL(18, 3)) AS charges
FROM lines
WHERE customer_id IS NOT NULL AND NOT cancelled
GROUP BY order_id, customer_id
HAVING sum(value) FILTER (kind = 'goods') > 0
