//! The style of pages and charts, light and dark.

pub(crate) const STYLE: &str = "
:root { --text: #1d2126; --dim: #5f6873; --page: #fbfbf9; --card: #fff; --rule: #e2e4e0; --green: #00805c; --threads: #c04f00; --failed: #b3261e;
  --p1: #2a62c9; --p2: #7d9be0; --p3: #7c3aed; --p4: #c2247a; --p5: #6b7280; --p6: #0891a5; --p7: #8a6500; --p8: #b08900; --p9: #5b4bb8; --p10: #a0468f; --p11: #8f5a4a; --p12: #4d7c0f; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8ea; --dim: #9aa4af; --page: #14171a; --card: #1c2024; --rule: #31373d; --green: #3ddba8; --threads: #ff9a52; --failed: #ff8a80;
  --p1: #7aa8ff; --p2: #b3c8f7; --p3: #b794ff; --p4: #ff7fbf; --p5: #a5adb8; --p6: #45cfe0; --p7: #d6b04a; --p8: #f0d060; --p9: #a99cf5; --p10: #dd8fd0; --p11: #d3a08f; --p12: #a3cf5a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1480px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; margin: 2.75rem 0 .25rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; color: var(--dim); font-weight: 600; }
p, li { max-width: 46rem; }
p { margin: .25rem 0 .75rem; }
.lead { font-size: 1.08rem; }
code { font: .92em ui-monospace, monospace; }
.green { color: var(--green); } .threads { color: var(--threads); } .failed { color: var(--failed); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: .75rem; margin-bottom: .75rem; }
.tile, figure { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.tile { padding: .7rem 1rem .8rem; display: grid; grid-template-columns: 1fr auto; align-items: baseline; }
.tile h4 { grid-column: 1 / -1; margin: 0; font-size: .85rem; font-weight: 600; color: var(--dim); }
.tile b { font-size: 1.35rem; font-variant-numeric: tabular-nums; grid-column: 1; }
.tile .threads { font-size: 1.05rem; }
.tile small { color: var(--dim); grid-column: 2; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: .75rem; }
figure { margin: 0; padding: .7rem .5rem .3rem; }
figcaption { font-weight: 600; font-size: .95rem; padding: 0 .5rem .1rem; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 12.5px system-ui, sans-serif; fill: var(--dim); font-variant-numeric: tabular-nums; }
.green { --c: var(--green); } .threads { --c: var(--threads); }
.p1 { --c: var(--p1); } .p2 { --c: var(--p2); } .p3 { --c: var(--p3); } .p4 { --c: var(--p4); } .p5 { --c: var(--p5); } .p6 { --c: var(--p6); }
.p7 { --c: var(--p7); } .p8 { --c: var(--p8); } .p9 { --c: var(--p9); } .p10 { --c: var(--p10); } .p11 { --c: var(--p11); } .p12 { --c: var(--p12); }
svg .name, .mark { fill: var(--c); } svg .name.green, svg .name.threads { font-weight: 700; }
.grid { stroke: var(--rule); } .axis { stroke: var(--dim); }
.line { fill: none; stroke: var(--c); stroke-width: 1.5; stroke-linejoin: round; } .line.green, .line.threads { stroke-width: 2.25; } .line.ours { stroke-width: 3.5; } .line.dashed { stroke-dasharray: 5 4; }
.to-name { fill: none; stroke: var(--c); stroke-width: .75; opacity: .55; } .broken path { fill: none; stroke: var(--failed); stroke-width: 2.5; }
svg .hit { fill: transparent; } .mark:hover .hit { fill: var(--c); opacity: .12; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th { text-align: right; font-weight: 600; color: var(--dim); border-bottom: 2px solid var(--rule); }
td { text-align: right; } th, td { padding: .22rem .7rem; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
tr.group td { border-top: 1px solid var(--rule); }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .2rem .6rem; align-items: center; padding: 0 .5rem .6rem; font-size: .85rem; }
.bars span { color: var(--text); } .bars span.green, .bars span.threads { color: var(--c); font-weight: 700; }
.bars i { display: block; height: .8rem; border-radius: 3px; background: var(--c); opacity: .75; } .bars i.green { opacity: 1; }
.bars i.cut { border-right: 6px double var(--card); } .bars b { font-variant-numeric: tabular-nums; text-align: right; font-weight: 600; }
.unit { margin: 0; padding: 0 .5rem .3rem; color: var(--dim); font-size: .85rem; } .unit b { color: var(--text); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; } dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
";
