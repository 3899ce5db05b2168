"""Reports as single HTML files: no server, no network, readable on a phone.

    page = Page("Title", [Section("Results", [Table(head, rows), Plot(plots.lines(...), "caption")])])
    write_page(page, path)

Text is escaped; pictures are inside the file.
"""

from lightningdrag.report import plots
from lightningdrag.report.page import (
    Edit,
    Gallery,
    Page,
    Part,
    Picture,
    Plot,
    Section,
    Table,
    Text,
    data_uri,
    render_page,
    write_page,
)

__all__ = [
    "Edit",
    "Gallery",
    "Page",
    "Part",
    "Picture",
    "Plot",
    "Section",
    "Table",
    "Text",
    "data_uri",
    "plots",
    "render_page",
    "write_page",
]
