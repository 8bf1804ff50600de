"""A piece of HTML taken apart."""

from html.parser import HTMLParser


class Parts(HTMLParser):
    """The elements of a piece of HTML and the text of its scripts."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.script = [], [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag != "input":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.script += data
