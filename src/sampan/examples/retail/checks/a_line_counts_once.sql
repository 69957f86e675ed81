-- No line may be in `lines` twice, however often a till recorded it.
SELECT order_id, stock_code, description, quantity, price, entered_at, count(*) AS times
FROM lines
GROUP BY ALL
HAVING count(*) > 1
