"""What every page of a run has in common: its style, in light and dark, and the little script that makes it answer."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--paper:#fff;--rule:#d8dee8;--soft:#f3f5f9;--follower:#c9d6e8;
--pre_candidate:#f3e3a3;--candidate:#f0b35a;--leader:#63b173;--down:#5b6270;--cut:#d43d5122;--bad:#c22237;
--good:#1f8a5b;--line:#3b6fb6;--applied:#a05fc0;--unknown:#e39a2d}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9f1;--paper:#12161d;--rule:#2c3542;--soft:#1a202a;--follower:#33455f;
--pre_candidate:#7a6a24;--candidate:#a8671b;--leader:#2f7d46;--down:#8790a0;--cut:#ff6b7f2b;--bad:#ff7587;
--good:#57c994;--line:#7fb0f2;--applied:#cf9be6;--unknown:#e0a54c}}
body{font:14px/1.45 system-ui,sans-serif;margin:20px;background:var(--paper);color:var(--ink)}
h1{font-size:20px;margin:0 0 4px}p{margin:4px 0}code,pre{font:12px/1.4 ui-monospace,monospace}
pre{background:var(--soft);padding:8px;overflow:auto;max-height:40vh}.verdict{font-weight:600}.failed,.vacuous{color:var(--bad)}
.passed{color:var(--good)}.key{display:inline-block;padding:1px 8px;margin:2px 4px 2px 0;border-radius:3px}
label{margin-right:12px;white-space:nowrap}#frame{display:flex;border:1px solid var(--rule);margin:8px 0}
#scroll{overflow-x:auto;flex:1}#names{flex:none;border-right:1px solid var(--rule);background:var(--soft)}
svg{font:10px system-ui,sans-serif;display:block}text{fill:var(--ink);pointer-events:none}
.name{font-weight:700;font-size:12px}
.follower{fill:var(--follower);background:var(--follower)}
.pre_candidate{fill:var(--pre_candidate);background:var(--pre_candidate)}
.candidate{fill:var(--candidate);background:var(--candidate)}.leader{fill:var(--leader);background:var(--leader)}
.down{fill:var(--down);background:var(--down)}.key.down{color:var(--paper)}.term{font-weight:700}
.tick{stroke:var(--rule)}.time{opacity:.75}rect.cut{fill:var(--cut)}.key.cut{background:var(--cut)}
.side0{fill:var(--line)}.side1{fill:var(--bad)}.side2{fill:var(--applied)}.side3{fill:var(--unknown)}
.level{fill:none;stroke-width:1.4}.level.commit{stroke:var(--line)}
.level.applied{stroke:var(--applied);stroke-dasharray:3 2}
.key.commit{border-bottom:2px solid var(--line)}.key.applied{border-bottom:2px dashed var(--applied)}
.msg{stroke:var(--ink);stroke-opacity:.4;stroke-width:.7}.msg.came{marker-end:url(#tip)}
.msg.lost{stroke:var(--bad);stroke-dasharray:2 2;stroke-opacity:.7}.msg:hover{stroke-width:3;stroke-opacity:1}
.op.ok{fill:var(--good)}.key.ok{background:var(--good);color:var(--paper)}.op.refused{fill:var(--follower)}
.op.unknown{fill:var(--unknown);fill-opacity:.7}.key.unknown{background:var(--unknown)}
line.fault{stroke-dasharray:2 3}.fault.worse{stroke:var(--bad)}.fault.better{stroke:var(--good)}
text.fault{font-size:8px;fill:var(--bad)}
.end{stroke:var(--bad);stroke-width:3}.kept{stroke:var(--ink);stroke-width:2.5;stroke-opacity:1}
#detail{position:sticky;bottom:0;background:var(--soft);border:1px solid var(--rule);padding:6px 10px;
font:12px/1.4 ui-monospace,monospace;overflow-wrap:anywhere;min-height:1.4em}
"""

SCRIPT = """
(() => {
  const run = document.getElementById('run'), detail = document.getElementById('detail');
  const base = Number(run.dataset.scale), end = Number(run.dataset.end);
  const stretch = document.getElementById('stretch'), scroll = document.getElementById('scroll');
  const draw = () => {
    const middle = (scroll.scrollLeft + scroll.clientWidth / 2) / run.width.baseVal.value;
    const k = base * 2 ** Number(stretch.value);
    for (const it of run.querySelectorAll('[data-a]')) {
      const a = it.dataset.a * k, b = (it.dataset.b ?? it.dataset.a) * k;
      if (it.tagName === 'line') { it.setAttribute('x1', a); it.setAttribute('x2', b); }
      else if (it.tagName === 'text') it.setAttribute('x', a + (it.classList.contains('term') ? 3 : 0));
      else { it.setAttribute('x', a); it.setAttribute('width', Math.max(b - a, 0.8)); }
    }
    for (const it of run.querySelectorAll('[data-points]'))
      it.setAttribute('points', it.dataset.points.split(' ').map(p => {
        const [t, y] = p.split(','); return t * k + ',' + y; }).join(' '));
    run.setAttribute('width', end * k + 20);
    scroll.scrollLeft = middle * run.width.baseVal.value - scroll.clientWidth / 2;
  };
  stretch.addEventListener('input', draw);
  document.getElementById('kinds').addEventListener('change', event => {
    const { kind } = event.target.dataset, shown = event.target.checked;
    for (const it of run.querySelectorAll(`.msg[data-kind="${kind}"]`)) it.style.display = shown ? '' : 'none';
  });
  let kept = null;
  const told = it => it?.querySelector?.(':scope > title')?.textContent;
  run.addEventListener('mouseover', event => {
    if (!kept && told(event.target)) detail.textContent = told(event.target);
  });
  run.addEventListener('click', event => {
    kept?.classList.remove('kept');
    kept = told(event.target) ? event.target : null;
    kept?.classList.add('kept');
    if (kept) detail.textContent = told(kept);
  });
})();
"""
