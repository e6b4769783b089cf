"""The report's style sheet: light and dark as the reader's system is, and on paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f7; --card: #ffffff; --ink: #1d2327; --muted: #626c74;
  --grid: #e3e7ea; --line: #dfe3e6; --warn: #a86f00; --alarm: #c43c00;
  --soft: #eef1f3; --blue: #0072b2; --slate: #5a6268;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1c2024; --ink: #e6e8ea; --muted: #9ba4ab;
    --grid: #30363c; --line: #30363c; --warn: #e8a91c; --alarm: #ff7a45;
    --soft: #252a2f; --blue: #62b0ee; --slate: #c8ccd0;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; font-weight: 650; }
h2 { font-size: 17px; margin: 0 0 12px; font-weight: 650; }
p { margin: 0 0 8px; }
.muted, .note { color: var(--muted); }
.note { font-size: 13px; margin: 8px 0 0; }
.verdict { font-size: 17px; margin: 18px 0 0; max-width: 60em; }
.chip {
  display: inline-block; border-radius: 5px; padding: 1px 9px; margin-right: 8px;
  font-size: 13px; font-weight: 700; letter-spacing: .04em; color: #000;
}
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin-top: 20px;
}
.tiles { display: grid; gap: 12px; margin-top: 20px;
  grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 10px 14px; }
.tile b { display: block; font-size: 21px; font-weight: 600; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: 13px; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.psfs { display: grid; gap: 14px; grid-template-columns: repeat(4, 1fr); }
.psfs figure { margin: 0; }
.psfs img { width: 100%; border-radius: 6px; display: block; }
figcaption { font-size: 13px; color: var(--muted); margin-top: 6px; line-height: 1.4; }
figcaption b { color: var(--ink); font-size: 14px; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--muted); font-size: 13px; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
td.nowrap { white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px;
  color: var(--muted); margin: 8px 0 0; padding: 0; list-style: none; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 2px;
  margin-right: 6px; vertical-align: -1px; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 0 40px; }
code, pre { font: 12.5px/1.5 ui-monospace, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
pre { background: var(--soft); border-radius: 6px; padding: 12px; overflow: auto;
  max-height: 460px; white-space: pre-wrap; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--muted); }
@media screen and (max-width: 760px) {
  .psfs, .two { grid-template-columns: 1fr 1fr; } .two { grid-template-columns: 1fr; }
}
@media print {
  :root { --paper: #fff; --card: #fff; --ink: #1d2327; --muted: #59636b;
    --grid: #e3e7ea; --line: #cfd5d9; --warn: #a86f00; --alarm: #c43c00;
    --blue: #0072b2; --slate: #5a6268; }
  body { font-size: 9pt; }
  h1 { font-size: 16pt; } h2 { font-size: 11pt; margin-bottom: 6px; }
  .verdict { font-size: 11pt; } .tile b { font-size: 13pt; }
  .tiles { grid-template-columns: repeat(6, 1fr); gap: 6px; margin-top: 12px; }
  table, figcaption b { font-size: 8.5pt; } code { font-size: 7pt; }
  th, .note, .legend, figcaption, .tile span { font-size: 8pt; }
  th, td { padding: 3px 10px 3px 0; }
  main { max-width: none; padding: 0; }
  section { margin-top: 10px; padding: 10px 12px; }
  section, .tile { border-radius: 0; break-inside: avoid; }
  .chip, .legend i, .psfs img { print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
  details { display: none; }
  @page { margin: 14mm; }
}
"""
