"""The report: one page about a database, made from nothing but the database.

`gather.py` puts together what there is to show (`contents.py`) by asking the database, with the profiles
of columns (`columns.py`), vectors as a map (`vectors.py`), rows with their lineage (`lineage.py`) and the
plan as a picture (`flow.py`); `page.py` writes it down as HTML.
"""
