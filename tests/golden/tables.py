"""The same six rows as other programs write them: `python tests/golden/tables.py` in the repository root.

Needs pandas, pyarrow, polars, openpyxl, xlsxwriter and odfpy. Output: tests/golden/tables/.
"""
import pathlib
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

ROWS = [
    ("A fine film, really", "pos"),
    ("Déjà vu; dull", "neg"),
    ("この映画はとても面白い", "pos"),
    ("Not for me", "neg"),
    ("I laughed", "pos"),
    ("I left early", "neg"),
]
out = pathlib.Path("tests/golden/tables")
out.mkdir(exist_ok=True)
frame = pd.DataFrame({
    "id": range(6),
    "sentence": [text for text, _ in ROWS],
    "label": [label for _, label in ROWS],
    "score": [0.5, float("nan"), 1.0, 2.0, 3.0, 4.0],
    "when": pd.to_datetime(["2024-01-02"] * 6),
})
for codec in ["snappy", "zstd", "gzip", "lz4"]:
    frame.to_parquet(out / f"pandas-{codec}.parquet", compression=codec, index=False)
pa.parquet.write_table(pa.Table.from_pandas(frame), out / "pyarrow-groups.parquet", row_group_size=2)
pl.from_pandas(frame).write_parquet(out / "polars.parquet")
frame.assign(label=frame.label.astype("category")).to_feather(out / "categories.feather", compression="zstd")
pl.from_pandas(frame).write_ipc(out / "polars.arrow", compression="lz4")
table = pa.Table.from_pandas(frame)
with pa.ipc.new_stream(out / "stream.arrow", table.schema) as stream:
    stream.write_table(table, max_chunksize=4)
frame.to_excel(out / "openpyxl.xlsx", index=False, engine="openpyxl")
with pd.ExcelWriter(out / "second-sheet.xlsx", engine="xlsxwriter") as book:
    pd.DataFrame().to_excel(book, sheet_name="Empty", index=False)
    frame.to_excel(book, sheet_name="Rows", index=False)
frame.to_excel(out / "odf.ods", index=False, engine="odf")

# A conversation as Hugging Face's datasets store it: a list of structs.
chats = pa.table({
    "messages": pa.array(
        [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}] for i in range(4)],
        pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
    ),
    "source": ["s"] * 4,
})
chat_dir = pathlib.Path("tests/golden/chats")
chat_dir.mkdir(exist_ok=True)
pa.parquet.write_table(chats, chat_dir / "chats.parquet")
with pa.ipc.new_stream(chat_dir / "chats.arrow", chats.schema) as stream:
    stream.write_table(chats)
