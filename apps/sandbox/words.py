"""The word lists the catalogue draws from: no word begins another, so that one title never hides in a second."""

from typing import Final

ADJECTIVES: Final = (
    "Velvet",
    "Crooked",
    "Silent",
    "Burning",
    "Hollow",
    "Gilded",
    "Paper",
    "Midnight",
    "Borrowed",
    "Rusted",
    "Frozen",
    "Electric",
    "Crimson",
    "Wandering",
    "Broken",
    "Golden",
    "Savage",
    "Quiet",
    "Painted",
    "Forgotten",
    "Copper",
    "Distant",
    "Hungry",
    "Iron",
    "Lucky",
    "Marble",
    "Neon",
    "Orphaned",
    "Polite",
    "Reckless",
    "Salted",
    "Tangled",
    "Unsinkable",
    "Vanishing",
    "Whispering",
    "Yellow",
    "Zealous",
    "Amber",
    "Bitter",
    "Clockwork",
)

NOUNS: Final = (
    "Lighthouse",
    "Orchard",
    "Cartel",
    "Astronaut",
    "Piano",
    "Embassy",
    "Beekeeper",
    "Harbour",
    "Mirror",
    "Sheriff",
    "Kingdom",
    "Matinee",
    "Tornado",
    "Librarian",
    "Glacier",
    "Casino",
    "Detective",
    "Submarine",
    "Wedding",
    "Vineyard",
    "Zeppelin",
    "Jackal",
    "Monastery",
    "Pilgrim",
    "Quarry",
    "Reunion",
    "Scarecrow",
    "Telegraph",
    "Umbrella",
    "Ventriloquist",
    "Waltz",
    "Xylophone",
    "Yacht",
    "Accordion",
    "Bakery",
    "Carousel",
    "Duchess",
    "Elevator",
    "Firefly",
    "Gardener",
)

SUBTITLES: Final = (
    "The Reckoning",
    "Part Two",
    "Origins",
    "A Love Story",
    "The Last Summer",
    "Resurrection",
)

PATTERNS: Final = (
    "The {a} {n}",
    "{a} {n}",
    "{a} {n}: {s}",
    "Return of the {a} {n}",
)

HEROES: Final = (
    "a retired stunt driver",
    "an honest tax inspector",
    "two rival cellists",
    "a lonely weather presenter",
    "a disgraced chef",
    "the last night nurse",
    "a teenage inventor",
    "an amnesiac sailor",
)

GOALS: Final = (
    "must win back the family bakery",
    "races to stop a heist already in progress",
    "finds a map nobody sold",
    "agrees to one more wedding",
    "learns that the town is for sale",
    "hides a witness nobody believes",
)

PLACES: Final = (
    "in a harbour without a sea",
    "during the longest night of the year",
    "aboard a stranded ferry",
    "in a city that cannot sleep",
    "under a mountain of unpaid bills",
    "at the edge of the salt flats",
)

TAGLINES: Final = (
    "Some doors stay shut.",
    "Bring a coat.",
    "Nobody reads the fine print.",
    "This time it is impersonal.",
    "Every ending has a receipt.",
    "Trust the weather.",
)

PRAISES: Final = (
    "the score does half the acting",
    "the camera adores every doorknob",
    "a supporting turn steals each scene it enters",
    "the second act finally breathes",
    "the production design deserves its own film",
)

COMPLAINTS: Final = (
    "the villain explains the plan to three different people",
    "the third act arrives late and leaves early",
    "every clue is repeated for the back row",
    "the romance has the heat of a parking ticket",
    "the running time feels like a sentence without parole",
)

VERDICTS: Final = (
    "a handsome mess",
    "a guilty pleasure",
    "a triumph of trousers over plot",
    "almost a film",
    "an honest matinee",
)

OUTLETS: Final = (
    "The Reel Gazette",
    "Popcorn Ledger",
    "Cinema Almanac",
    "Last Row Review",
    "The Projectionist",
    "Frame by Frame",
)

GENRES: Final = (
    (28, "Action"),
    (12, "Adventure"),
    (35, "Comedy"),
    (80, "Crime"),
    (18, "Drama"),
    (14, "Fantasy"),
    (27, "Horror"),
    (9648, "Mystery"),
    (10749, "Romance"),
    (878, "Science Fiction"),
    (53, "Thriller"),
)

ROAST_OPENERS: Final = (
    "I watched {title} so that you can wash your hair instead.",
    "{title} asks one brave question: what if nobody edited this?",
    "Somewhere in {title} there is a short film begging to be let out.",
    "They spent {budget} million on {title} and still could not afford a second draft.",
)

ROAST_JABS: Final = (
    "{complaint}, and then does it again in slow motion.",
    "The best I can say: {praise}; the worst: {complaint}.",
    "At {runtime} minutes, {complaint}.",
    "The plot, in which {hero} {goal}, was found in a drawer and left there.",
)

ROAST_CLOSERS: Final = (
    "In short: {verdict}. Bring snacks, leave hope.",
    "Final score: {vote}/10, and the popcorn earned most of it.",
    "Call it {verdict} and call a taxi.",
    "Stay for the credits; they are the only part with a point.",
)
