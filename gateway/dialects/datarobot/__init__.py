"""DataRobot's prediction API: time series predictions for deployments, and what its clients ask before.

A deployment says which columns of a table are what, and which model forecasts them; it stands in the settings or in
the database (`forecast-gateway deployments add`). Rows with an empty target behind the forecast point are predicted.
"""
