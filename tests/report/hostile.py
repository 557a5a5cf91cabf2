"""Names that markup, spreadsheets, typesetters, templates and eyes misread; every one of another kind."""

from __future__ import annotations

# What a spreadsheet takes for the start of a formula; the last four are its full-width forms.
FORMULA_STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"

HOSTILE = (
    # markup
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</style><b>bold",
    "</title><h1>title",
    "</table></section>",
    "</script><script>alert(2)</script>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "` onfocus=alert(1) autofocus",
    "javascript:alert(1)",
    "data:text/html,<b>x",
    "<!-- comment",
    "<![CDATA[x]]>",
    "<?xml version='1.0'?>",
    "&amp;&lt;",
    "&#60;b&#62;",
    "&unknown;",
    "]]>",
    # templates
    "{{ 7*7 }}",
    "{% raw %}",
    "{# note #}",
    "${7*7}",
    "%(name)s %d",
    "{0.__class__}",
    # formulas
    "=1+1",
    '=HYPERLINK("http://evil.example")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff20SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    # separators and quotes
    "a\nb",
    "a\r\nb",
    "a,b;c",
    'quote"quote',
    '""',
    "pipe|pipe",
    "back\\slash\\",
    # Markdown
    "*bold* _it_ `code`",
    "[text](http://evil.example)",
    "# heading",
    "~~~",
    # LaTeX
    "\\input{/etc/passwd}",
    "\\end{tabular}",
    "$x^2$",
    "50 % & 20 #",
    "[0pt]",
    # paths and links
    "../../etc/passwd",
    "a/b c?d#e",
    # characters that hide, turn or end something
    "nul\x00nul",
    "escape\x1b[31mred",
    "bell\x07\x08",
    "next\x85line\u2028end",
    "turned\u202egnp.exe",
    "isolated\u2066\u2067x",
    "zero\u200bwidth\u200djoiner",
    "soft\u00adhyphen\ufeff",
    "no\u00a0break",
    "e\u0301 e\u0300\u0316\u0317\u0318",
    "👩🏽‍🔬 🧪",
    "naïve-µm-Ω-日本-עברית",
    " ",
    "x" * 300,
)
