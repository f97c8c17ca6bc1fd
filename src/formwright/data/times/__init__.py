"""How a column writes its times: dates in any order, numbers, zones; read for the column as a whole, written alike."""
