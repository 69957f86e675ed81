"""What each page says, as typed contexts. A view reads parts and a query; it knows neither HTML nor HTTP."""
