-- A check gives the rows that are wrong. While it gives any, nothing that was built is published.
SELECT page FROM pages WHERE page NOT LIKE '/%'
