-- Every order whose label is known, with what was known about its customer at the time.
SELECT features.*, labels.label_known_at, labels.returned
FROM features
JOIN labels USING (order_id)
