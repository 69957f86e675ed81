-- What customers paid in `orders`, goods and charges (postage, corrections) apart, is what `lines` says.
WITH booked AS (
    SELECT sum(goods) AS goods, sum(charges) AS charges FROM orders
),
entered AS (
    SELECT
        coalesce(sum(value) FILTER (kind = 'goods'), 0) AS goods,
        coalesce(sum(value) FILTER (kind <> 'goods'), 0) AS charges
    FROM lines
    SEMI JOIN orders ON orders.order_id = lines.order_id
)
SELECT booked.goods, entered.goods AS goods_in_lines, booked.charges, entered.charges AS charges_in_lines
FROM booked, entered
WHERE booked.goods <> entered.goods OR booked.charges <> entered.charges
