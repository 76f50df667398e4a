"""The status page's style sheet. It stands in the page itself, and the page's policy names its digest."""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1c2024;--soft:#5b6570;--line:#d9dee3;--card:#ffffff;--ground:#f4f6f8;
--good:#1a7f37;--bad:#b42318;--accent:#0b62c4;--fill:#0b62c422}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa4ae;--line:#30363d;--card:#171b20;--ground:#0e1116;
--good:#4cc46a;--bad:#ff7b6e;--accent:#6cb0ff;--fill:#6cb0ff22}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:1.5rem 1rem 3rem;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
header{display:flex;flex-wrap:wrap;align-items:center;gap:.75rem;margin-bottom:1rem}
h1{font-size:1.5rem;margin:0}
h2{font-size:1.05rem;margin:0 0 .6rem}
h3{font-size:.95rem;margin:0 0 .4rem}
p{margin:.4rem 0 0}
code{font:.92em ui-monospace,monospace;overflow-wrap:anywhere}
.state{margin:0;padding:.1rem .7rem;border-radius:1rem;border:1.5px solid currentColor;font-weight:600}
.good{color:var(--good)}
.bad{color:var(--bad)}
.at{margin:0 0 0 auto;color:var(--soft);font-variant-numeric:tabular-nums}
section,.figures{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem;margin:0 0 1rem}
.troubles{border-color:var(--bad);border-left-width:.35rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.75rem,1fr));gap:1rem}
.figures dd{margin:0;font-size:1.35rem;font-weight:600;font-variant-numeric:tabular-nums;line-height:1.3}
.figures dt{color:var(--soft);font-size:.85rem}
.figures div{display:flex;flex-direction:column;justify-content:flex-end}
.shards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:1.25rem 2rem}
article{min-width:0;display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:0 2rem;
align-content:start}
article h3{grid-column:1/-1}
figure{margin:0 0 .5rem}
figcaption{color:var(--soft);font-size:.85rem;margin-bottom:.3rem}
svg{display:block;width:100%}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}
.lag{height:auto}
.grid{stroke:var(--line);fill:none}
.line{stroke:var(--accent);stroke-width:1.75;fill:none;stroke-linejoin:round}
.area{fill:var(--fill)}
circle{fill:var(--accent)}
.bar{height:.75rem;border-radius:.4rem;overflow:hidden}
.bar .all{fill:var(--line)}
.bar .used{fill:var(--accent)}
table{border-collapse:collapse;width:100%}
th,td{padding:.25rem .75rem .25rem 0;text-align:left;vertical-align:top}
article th{color:var(--soft);font-weight:400;width:10.5rem}
article table{align-self:start}
article td{font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.wide{overflow-x:auto}
.list{min-width:44rem}
.list td:first-child{min-width:9rem}
.list th{color:var(--soft);font-weight:400;border-bottom:1px solid var(--line)}
.list td{border-bottom:1px solid var(--line)}
.list tr:last-child td{border-bottom:0}
.list td:nth-child(n+3){white-space:nowrap;font-variant-numeric:tabular-nums}
.number{text-align:right}
ul{margin:0;padding-left:1.1rem}
.alarms{list-style:none;padding:0}
.alarms li{padding:.4rem 0;border-top:1px solid var(--line);overflow-wrap:anywhere}
.alarms li:first-child{border-top:0;padding-top:0}
.when{color:var(--soft);font-variant-numeric:tabular-nums}
footer{display:flex;flex-wrap:wrap;gap:.4rem 1.25rem;color:var(--soft);font-size:.88rem}
a{color:var(--accent)}
"""
