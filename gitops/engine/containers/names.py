"""Names of containers: what is allowed, and the two words that one gets when nobody gave it a name."""

from __future__ import annotations

import random
import re
from collections.abc import Container

from gitops import errors

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_ATTEMPTS = 20


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADJECTIVES = _words(
    "admiring adoring agitated amazing angry awesome beautiful blissful bold boring brave busy charming "
    "clever compassionate competent confident cool cranky crazy dazzling determined distracted dreamy eager "
    "ecstatic elastic elated elegant eloquent epic exciting fervent festive flamboyant focused friendly "
    "frosty funny gallant gifted goofy gracious great happy hardcore heuristic hopeful hungry infallible "
    "inspiring intelligent interesting jolly jovial keen kind laughing loving lucid magical modest musing "
    "mystifying naughty nervous nice nifty nostalgic objective optimistic peaceful pedantic pensive practical "
    "priceless quirky quizzical recursing relaxed reverent romantic sad serene sharp silly sleepy stoic "
    "strange stupefied suspicious sweet tender thirsty trusting unruffled upbeat vibrant vigilant vigorous "
    "wizardly wonderful xenodochial youthful zealous zen"
)
SURNAMES = _words(
    "albattani allen almeida archimedes ardinghelli aryabhata austin babbage banach banzai bardeen bartik "
    "bassi bell bhabha bhaskara blackwell bohr booth borg bose boyd brattain brown buck carson cartwright "
    "chandrasekhar chaplygin clarke colden cori cray curie curran darwin davinci diffie dijkstra dirac "
    "driscoll dubinsky einstein elgamal elion engelbart euclid euler faraday fermat fermi feynman franklin "
    "galileo gates gauss germain goldberg goldstine goodall hamilton hawking heisenberg hermann heyrovsky "
    "hodgkin hoover hopper hypatia jackson jang jennings jepsen johnson joliot jones kalam kare keller kepler "
    "khorana kilby kirch knuth kowalevski lalande lamarr lamport leakey leavitt lovelace lumiere mahavira "
    "mayer mccarthy mcclintock mclean mcnulty meitner mendel mendeleev mirzakhani montalcini morse murdock "
    "neumann newton nightingale nobel noether noyce panini pare pasteur payne perlman pike poincare poitras "
    "ptolemy raman ramanujan ride ritchie roentgen rosalind saha sammet shannon shaw shirley shockley "
    "sinoussi snyder spence stallman stonebraker swanson swartz tesla thompson torvalds turing varahamihira "
    "villani volhard wescoff wiles williams wilson wing wozniak wright yalow yonath"
)


def check(name: str) -> str:
    """The name as it is stored, with a leading slash.

    Raises:
        errors.Invalid: with Docker's text.
    """
    if not _NAME.fullmatch(name):
        raise errors.Invalid(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name if name.startswith("/") else f"/{name}"


def generate(taken: Container[str], rng: random.Random) -> str:
    """A free name of two words, with the slash."""
    for attempt in range(_ATTEMPTS):
        name = f"/{rng.choice(ADJECTIVES)}_{rng.choice(SURNAMES)}"
        # Docker's only rule about the words themselves.
        if name == "/boring_wozniak":
            continue
        name += str(rng.randrange(10 ** max(1, attempt // 4))) if attempt >= 3 else ""
        if name not in taken:
            return name
    return f"/{rng.choice(ADJECTIVES)}_{rng.choice(SURNAMES)}_{rng.getrandbits(64):016x}"
