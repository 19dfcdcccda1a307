"""The look of a report: one style sheet, no outside resource, light and dark, wide and narrow."""

CSS = """
:root { color-scheme: light dark; --paper: #fbfaf8; --ink: #1f2328; --soft: #5c6470;
  --line: #dcdad5; --card: #ffffff; --bar: #cfe3f6; --ours: #1b64a5; --good: #1d7a3f;
  --bad: #b3401a; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e6e8eb; --soft: #9aa4b0;
  --line: #30363d; --card: #1d2127; --bar: #1f4468; --ours: #7fbcf5; --good: #6fd08f;
  --bad: #f0946b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.2rem 1.2rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .6rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 46rem; }
.lead, figcaption, small, dd { color: var(--soft); }
nav { margin: 1rem 0 0; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .92rem; }
a { color: var(--ours); }
ul.verdict { list-style: none; padding: 0; margin: .8rem 0; }
ul.verdict li, h1, h2, p, figcaption { overflow-wrap: anywhere; }
ul.verdict li { padding: .5rem .8rem; margin: .4rem 0; background: var(--card);
  border-left: 4px solid var(--good); border-radius: 4px; }
ul.verdict li.bad { border-color: var(--bad); }
.wide { overflow-x: auto; margin: .9rem 0; }
.hint { position: sticky; left: 0; width: fit-content; margin: 0; font-size: .85rem;
  color: var(--soft); max-height: 0; opacity: 0; overflow: hidden; }
@keyframes told { from, to { max-height: 3em; opacity: 1; } }
@supports (animation-timeline: scroll()) { .hint { animation: told linear both;
  animation-timeline: scroll(nearest inline); } }
@supports not (animation-timeline: scroll()) { @media (max-width: 600px) {
  .hint { max-height: 3em; opacity: 1; } } }
.name { position: sticky; left: 0; background: var(--paper); min-width: 10rem; max-width: 20rem;
  overflow-wrap: anywhere; text-align: left; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .45em;
  border-radius: 2px; }
.name small { font-weight: 400; }
.long { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4;
  overflow: hidden; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .38rem .75rem; border-bottom: 1px solid var(--line); text-align: right; }
th { font-weight: 600; }
thead th { vertical-align: bottom; text-align: center; }
thead th.name, tr > :first-child:not(thead *) { text-align: left; }
tr.ours > * { color: var(--ours); font-weight: 700; }
td.bar { width: 7rem; min-width: 5rem;
  background: linear-gradient(to right, var(--bar) var(--share), transparent 0); }
dl { display: grid; grid-template-columns: minmax(8rem, 14rem) 1fr; gap: .35rem 1.2rem;
  font-size: .93rem; }
dt { font-weight: 600; }
dd { margin: 0; }
figure { margin: 1.2rem 0 1.8rem; }
figure a { display: block; background: #fff; border: 1px solid var(--line); border-radius: 6px;
  padding: .4rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figure .wide { margin: 0; }
figcaption { font-size: .93rem; margin-top: .45rem; max-width: 46rem; }
details { margin: .7rem 0; }
summary { cursor: pointer; font-weight: 600; }
table.keys th, table.keys td { text-align: left; font-weight: 400; vertical-align: top;
  font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .82rem;
  overflow-wrap: anywhere; }
@media (max-width: 600px) { main { padding: 1.2rem .8rem 3rem; } h1 { font-size: 1.5rem; }
  th, td { padding: .32rem .45rem; } .name { min-width: 6rem; max-width: 9rem; }
  td.bar { width: auto; min-width: 3.6rem; }
  dl { grid-template-columns: 1fr; gap: .1rem; } dd { margin-bottom: .6rem; }
  figure .wide img { max-width: none; width: max(100%, min(var(--width), 44rem)); }
  figure .wide a { width: fit-content; } }
@media print { a { color: inherit; } details > * { display: block; }
  .hint { display: none; } .wide { overflow: visible; } }
"""


def scrolling(html: str) -> str:
    """Puts what may be wider than the page where it scrolls, and says so where it does.

    Args:
        html: A table or a picture.
    """
    return (
        '<div class="wide" tabindex="0"><p class="hint">Wider than the screen: scroll it sideways '
        f"to see all.</p>{html}</div>"
    )
