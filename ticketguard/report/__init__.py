"""Reports: verdicts and suites as text, JSON, Markdown, CSV and HTML."""
