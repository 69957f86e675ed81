-- An order has a customer, costs something, is no cancellation, and is there once.
SELECT orders.order_id, orders.customer_id, orders.goods, count(*) AS times
FROM orders
GROUP BY orders.order_id, orders.customer_id, orders.goods
HAVING count(*) > 1 OR orders.customer_id IS NULL OR orders.goods <= 0 OR starts_with(orders.order_id, 'C')
