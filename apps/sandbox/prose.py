"""The seeded writers: review articles for the search providers, research notes and roasts for the models.

Token counts are a quarter of the characters: near enough for a bill that nobody pays.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from .catalogue import Movie
from .words import COMPLAINTS, OUTLETS, PRAISES, ROAST_CLOSERS, ROAST_JABS, ROAST_OPENERS, VERDICTS

ARTICLES_PER_QUERY: Final = 24
ARTICLE_AGE_DAYS_MAX: Final = 40
CHARACTERS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """One search result, before a provider dresses it."""

    title: str
    url: str
    snippet: str
    outlet: str
    published: date
    age_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What a model wrote, and whether it was cut at its limit."""

    text: str
    tokens: int
    is_cut: bool


class Prose:
    """Writes the same words for the same seed and the same subject."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed

    def articles(self, query: str, *, movie: Movie | None, today: date) -> Sequence[Article]:
        """Find the articles about a query, the best first."""
        subject = movie.title if movie else query.strip()
        return [self._article(subject, rank=rank, today=today) for rank in range(ARTICLES_PER_QUERY)]

    def research(self, query: str, *, movie: Movie | None) -> str:
        """Write what a research model found."""
        dice = self._dice("research", movie.title if movie else query)
        subject = movie.title if movie else query.strip()[:80]
        facts = f" It runs {movie.runtime_min} minutes and follows {movie.hero} who {movie.goal}." if movie else ""
        return (
            f"Critics are divided on {subject}.{facts} Admirers say that {dice.choice(PRAISES)} [1]; "
            f"others note that {dice.choice(COMPLAINTS)} [2]. The consensus: {dice.choice(VERDICTS)} [3]."
        )

    def roast(self, prompt: str, *, movie: Movie | None, voice: str) -> str:
        """Write a roast of the movie; the voice is the provider, so that two models do not write the same."""
        dice = self._dice(f"roast:{voice}", movie.title if movie else prompt)
        words = {
            "title": movie.title if movie else "this prompt",
            "budget": movie.budget_usd // 1_000_000 if movie else 3,
            "runtime": movie.runtime_min if movie else 90,
            "hero": movie.hero if movie else "somebody",
            "goal": movie.goal if movie else "wants something",
            "vote": round(movie.vote_average) if movie else 5,
            "praise": dice.choice(PRAISES),
            "verdict": dice.choice(VERDICTS),
        }
        lines = (dice.choice(ROAST_OPENERS), *dice.sample(ROAST_JABS, 2), dice.choice(ROAST_CLOSERS))
        complaints = dice.sample(COMPLAINTS, len(lines))
        pairs = zip(lines, complaints, strict=True)
        return " ".join(_as_sentence(line.format(**words, complaint=complaint)) for line, complaint in pairs)

    def _article(self, subject: str, *, rank: int, today: date) -> Article:
        dice = self._dice(f"article:{rank}", subject)
        outlet, age_days = dice.choice(OUTLETS), dice.randrange(ARTICLE_AGE_DAYS_MAX) if rank else 0
        slug = "-".join("".join(sign if sign.isalnum() else " " for sign in subject.lower()).split())[:60]
        host = "".join(outlet.lower().split())
        return Article(
            title=f"{subject} review: {dice.choice(VERDICTS)}",
            url=f"https://{host}.example/{slug}-{rank + 1}",
            snippet=f"In {subject}, {dice.choice(PRAISES)}, yet {dice.choice(COMPLAINTS)}.",
            outlet=outlet,
            published=today - timedelta(days=age_days),
            age_days=age_days,
        )

    def _dice(self, purpose: str, subject: str) -> random.Random:
        return random.Random(f"{self._seed}:{purpose}:{subject.casefold()}")


def _as_sentence(line: str) -> str:
    return line[0].upper() + line[1:]


def tokens_in(text: str) -> int:
    """Estimate the tokens of a text; an empty one has none."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def cut(text: str, *, tokens_max: int | None) -> Text:
    """Stop writing at the limit, as a model does."""
    if tokens_max is None or tokens_in(text) <= tokens_max:
        return Text(text=text, tokens=tokens_in(text), is_cut=False)
    kept = text[: tokens_max * CHARACTERS_PER_TOKEN]
    return Text(text=kept, tokens=tokens_in(kept), is_cut=True)


def digest(*parts: object) -> str:
    """Make an id that is the same for the same call."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:24]
