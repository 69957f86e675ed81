-- One row per page. Every name in FROM is a dependency: `visit` is a kind of event, so this is built from the log.
SELECT
    page,
    count(*) AS visits,
    count(DISTINCT visitor) AS visitors,
    sum(seconds::DECIMAL(18, 3)) AS seconds
FROM visit
GROUP BY page
