//! The words of the sample shop: what stands on its shelves, who makes it, who buys it.
//!
//! Plain data, read by `seed` alone; lists are texts with `|` between their items. To change a word, or the order or
//! number of words, changes what product `i` is: a shop that was seeded before keeps its old products, since they are
//! known by their SKU. Qualities and things are written as in the middle of a sentence; names capitalise them.

/// A category and what is sold in it. Any quality goes with any thing, size, merit and detail of the same department.
pub(super) struct Department {
    pub(super) category: &'static str,
    pub(super) about: &'static str,
    /// Begins the SKUs.
    pub(super) code: &'static str,
    /// Lowest and highest price in whole units of money.
    pub(super) price: (u64, u64),
    pub(super) qualities: &'static str,
    pub(super) things: &'static str,
    /// Colours, sizes or packs; the name ends with one of them.
    pub(super) sizes: &'static str,
    /// What it does, to follow "a … that".
    pub(super) merits: &'static str,
    /// Whole sentences.
    pub(super) details: &'static str,
}

pub(super) const MAKERS: &str = "Alder & Finch|Amaro|Ardent|Bellwether|Birchline|Borealis|Brightwater|\
    Calder|Cedar Row|Cinder|Copperfield|Dovetail|Eastgate|Elmwood|Fairhaven|Fennick|Foxglove|Granary|\
    Greyfriars|Halden|Harrow|Hearth & Hand|Isola|Juniper|Kestrel|Kinfolk|Lantern Street|Larkspur|\
    Lindqvist|Lowland|Maren|Meridian|Millstone|Nordahl|Norrland|Oakhaven|Old Harbour|Osprey|Palmyra|\
    Petrichor|Quayside|Redstart|Rowan|Saffron Lane|Salt & Tide|Sandpiper|Sarto|Solstice|Stonebridge|\
    Tamarind|Thistle|Tilia|Umbra|Verano|Wayfarer|Westerly|Willowbrook|Wren|Yarrow|Zephyr";

pub(super) const TOWNS: &str = "Aarhus|Antwerp|Bath|Bergen|Bologna|Bruges|Cork|Dundee|Fez|Ghent|Granada|\
    Graz|Izmir|Kraków|Leipzig|Lyon|Marrakesh|Oporto|Sheffield|Tallinn|Turin|Uppsala|Utrecht|Valencia";

/// May end a description; `{maker}` and `{town}` are filled in.
pub(super) const CLOSINGS: &str = "Made by {maker} in {town}.|Made in small batches in {town}.|\
    Designed in {town} and built to last.|Comes with {maker}'s two-year guarantee.|\
    Packed without plastic.|Spare parts are available from {maker}.|Ships within two working days.|\
    A favourite of our customers for years.|Makes a welcome gift.|Returns are free within thirty days.";

pub(super) const FIRST_NAMES: &str = "Ada|Amira|Anton|Beatriz|Bilal|Carla|Chidi|Clara|Dilan|Elif|Emil|\
    Fatima|Finn|Grace|Hana|Idris|Ines|Jonas|Kaito|Leila|Luca|Mira|Nadia|Noor|Omar|Priya|Rosa|Sami|Sofia|\
    Tomás|Yara|Zoë";

pub(super) const LAST_NAMES: &str = "Adeyemi|Almeida|Andersson|Bauer|Bennani|Castillo|Demir|Fischer|\
    Haddad|Hughes|Ibrahim|Jansen|Kaplan|Kowalski|Larsen|Marino|Mensah|Moreau|Nakamura|Novak|Okafor|Petrov|\
    Quinn|Rahman|Rossi|Santos|Sharma|Silva|Tanaka|Virtanen|Walsh|Yılmaz";

pub(super) const STREETS: &str = "Canal Street|Chapel Lane|Fountain Square|Garden Row|Harbour Road|\
    High Street|Lime Avenue|Market Place|Mill Lane|Orchard Way|River Walk|Station Road";

pub(super) const DEPARTMENTS: &[Department] = &[
    Department {
        category: "Cookware",
        code: "CKW",
        price: (18, 240),
        about: "Pots, pans and casseroles for everyday cooking and for Sundays.",
        qualities: "cast iron|carbon steel|copper-base|enamelled|hammered steel|ceramic-coated|\
            three-ply steel|hard-anodised",
        things: "skillet|saucepan|casserole|stockpot|wok|sauté pan|grill pan|crêpe pan|milk pan|\
            braising dish",
        sizes: "16 cm|20 cm|24 cm|26 cm|28 cm|30 cm",
        merits: "holds its heat and goes from hob to oven|browns evenly without hot spots|\
            gets better with every meal|pours cleanly from both sides|\
            is at home on gas and induction alike",
        details: "The riveted handle stays cool for longer.|Safe in the oven up to 250 °C.|\
            A rinse with hot water is all the care it needs.|The base is thick enough never to warp.|\
            Stacks neatly with the rest of the series.|The rim is rolled for pouring without a drip.",
    },
    Department {
        category: "Tableware",
        code: "TBW",
        price: (6, 95),
        about: "Plates, bowls and glasses that make a Tuesday look like a feast.",
        qualities: "stoneware|hand-thrown|speckled|bone china|reactive-glaze|terracotta|matt porcelain|\
            ribbed",
        things: "dinner plate|pasta bowl|cereal bowl|side plate|serving platter|mug|espresso cup|\
            water carafe|salad bowl|butter dish",
        sizes: "Chalk|Ink|Moss|Sand|Rust|Sea Green|Charcoal",
        merits: "feels good in the hand|turns leftovers into dinner|\
            is slightly different from its neighbour, as it should be|survives the dishwasher every day|\
            keeps warm food warm",
        details: "Glazed by hand, so that no two are quite the same.|\
            Safe in the microwave and the dishwasher.|\
            The unglazed foot is sanded smooth and kind to tables.|Fired twice for strength.|\
            Stacks without wobbling.",
    },
    Department {
        category: "Kitchen Knives",
        code: "KNF",
        price: (14, 320),
        about: "Blades that stay sharp, and what keeps them so.",
        qualities: "forged|Damascus|high-carbon|stainless|walnut-handled|olive-handled|full-tang",
        things: "chef's knife|paring knife|santoku|bread knife|carving knife|utility knife|boning knife|\
            nakiri|cheese knife|filleting knife",
        sizes: "9 cm|13 cm|16 cm|18 cm|21 cm|24 cm",
        merits: "glides through tomatoes without a squash|keeps its edge for months|\
            balances on one finger|feels like an extension of the hand|\
            makes short work of a bag of onions",
        details: "Hardened to 60 HRC and sharpened by hand.|Wash by hand and dry at once.|\
            The bolster gives a safe pinch grip.|Comes in a cardboard sheath.|\
            We sharpen it for free in the first year.|The spine is rounded so as not to bite the finger.",
    },
    Department {
        category: "Coffee & Tea",
        code: "COF",
        price: (5, 48),
        about: "Beans and leaves from growers we know, roasted and packed every week.",
        qualities: "Ethiopian|Colombian|Guatemalan|Rwandan|Assam|Darjeeling|single-estate|organic|\
            wild-harvested",
        things: "breakfast blend|reserve|house blend|first flush|peaberry lot|evening infusion|\
            cold brew pack|tasting set|smoked lot|morning cup",
        sizes: "100 g|250 g|500 g|1 kg|20 Sachets",
        merits: "tastes of stone fruit and honey|opens with citrus and ends on dark chocolate|\
            wakes a house without shouting|stays bright with or without milk|\
            smells of malt and warm bread",
        details: "Packed on the day of the order.|Best within six weeks of opening.|\
            Bought directly from the growers at a fixed price.|Keep it cool, dry and dark.|\
            The bag closes again and goes on the compost.|Brew it a little cooler than boiling.",
    },
    Department {
        category: "Spices & Pantry",
        code: "SPC",
        price: (3, 36),
        about: "Spices, oils and preserves: the shortest way from a market to your pan.",
        qualities: "smoked|stone-ground|sun-dried|cold-pressed|hand-picked|slow-cooked|wild|roasted",
        things: "paprika|sumac|olive oil|harissa|za'atar|tahini|fig preserve|sea salt|chilli|\
            tomato passata|date syrup|pepper blend",
        sizes: "50 g|80 g|150 g|250 g|500 g",
        merits: "lifts a plain bowl of rice|belongs beside every stove|needs nothing but warm bread|\
            turns vegetables into the main course|keeps its scent for a year",
        details: "Harvested this season.|Nothing added and nothing taken away.|\
            Store away from light and heat.|From a cooperative of forty small farms.|\
            May contain traces of sesame.|The jar can be refilled in our shop.",
    },
    Department {
        category: "Lighting",
        code: "LGT",
        price: (19, 390),
        about: "Lamps for reading, working and for corners that deserve a glow.",
        qualities: "brass|smoked glass|linen-shaded|opal glass|powder-coated|rattan|walnut|articulated",
        things: "desk lamp|floor lamp|pendant|wall light|table lamp|reading lamp|ceiling light|clip lamp|\
            lantern|bedside lamp",
        sizes: "Small|Medium|Large|Black|Ivory|Olive",
        merits: "throws a warm and even light|dims from bright to barely there|\
            turns a corner into a place to read|stays exactly where it is put|looks as good switched off",
        details: "Takes a standard E27 bulb, which is included.|The fabric cable is two metres long.|\
            Rated IP20 for indoor use.|The switch sits on the cable within easy reach.|\
            Fitting takes ten minutes and one screwdriver.|Uses no more than 8 watts.",
    },
    Department {
        category: "Furniture",
        code: "FRN",
        price: (59, 1490),
        about: "Tables, chairs and shelves in honest wood, steel and wool.",
        qualities: "solid oak|ash|walnut|beech|steel-framed|bentwood|reclaimed pine|upholstered",
        things: "dining table|dining chair|bookcase|side table|bench|bar stool|writing desk|armchair|\
            sideboard|bed frame|coat stand",
        sizes: "Natural|Black Stain|Smoked|White Oil|Compact|Wide",
        merits: "will outlive its first three homes|comes apart as easily as it goes together|\
            fits where others do not|is as comfortable at midnight as at dinner|\
            gets more handsome with every scratch",
        details: "Finished with natural oil that can be renewed at home.|\
            All timber is from certified forests.|Assembly takes about twenty minutes.|\
            Felt pads protect the floor.|Carries up to 120 kg.|Delivered to the room of your choice.",
    },
    Department {
        category: "Rugs & Curtains",
        code: "RUG",
        price: (24, 780),
        about: "Woven, knotted and stitched: warmth for floors and windows.",
        qualities: "hand-knotted|flat-woven|wool|jute|cotton|block-printed|linen|tufted",
        things: "rug|runner|kilim|doormat|curtain|throw|floor cushion|bath mat|tapestry",
        sizes: "60 × 90 cm|80 × 150 cm|120 × 180 cm|160 × 230 cm|200 × 300 cm",
        merits: "softens a hard room|hides what children and dogs do to floors|catches the morning light|\
            feels warm under bare feet|brings the colours together",
        details: "Dyed with plants, so colours vary a little.|\
            Beat it outdoors twice a year and it lasts for decades.|The back is woven to lie flat.|\
            Made by hand, which takes about five weeks.|Can be washed at 30 °C.",
    },
    Department {
        category: "Bedding",
        code: "BED",
        price: (15, 260),
        about: "Sheets, duvets and pillows to be late for.",
        qualities: "percale|washed linen|sateen|organic cotton|bamboo|brushed cotton|wool-filled|\
            seersucker",
        things: "duvet cover|fitted sheet|pillowcase pair|duvet|pillow|bedspread|mattress topper|blanket|\
            bolster cover",
        sizes: "Single|Double|King|Super King|Cot",
        merits: "stays cool in August and warm in January|softens with every wash|\
            makes getting up a decision|breathes all night|needs no ironing, and forgives it",
        details: "Woven from long-staple yarn.|Certified free of harmful substances.|\
            Wash at 40 °C and dry on the line.|Buttons are made of shell.|\
            Shrinks by no more than two per cent.|Comes in a bag of the same cloth.",
    },
    Department {
        category: "Bath & Body",
        code: "BTH",
        price: (4, 78),
        about: "Soaps, oils and towels for the quiet quarter of an hour.",
        qualities: "olive oil|cedarwood|unscented|sea salt|rosemary|orange blossom|charcoal|oat",
        things: "soap bar|hand wash|body oil|shampoo bar|bath salt|face cream|hand balm|shaving soap|\
            body scrub",
        sizes: "50 ml|100 ml|250 ml|500 ml|Twin Pack",
        merits: "leaves the skin soft, not slippery|smells like a walk after rain|\
            lasts for two months of showers|is kind to sensitive skin|rinses away clean",
        details: "Free of palm oil and microplastics.|Never tested on animals.|Poured and cut by hand.|\
            Keep it dry between uses.|Refills are available.|Suitable for the whole family.",
    },
    Department {
        category: "Garden",
        code: "GRD",
        price: (7, 310),
        about: "Tools, pots and seeds for a balcony or an acre.",
        qualities: "forged|ash-handled|galvanised|long-reach|heavy-duty|copper|frost-proof|folding",
        things: "spade|hand trowel|pruner|watering can|garden fork|planter|hose reel|cold frame|\
            bird feeder|rake|raised bed kit",
        sizes: "Small|Standard|Large|Green|Slate",
        merits: "makes light work of heavy clay|saves the back and the knees|can stay out all winter|\
            gets into the corners that others miss|turns a doorstep into a garden",
        details: "Heads are forged from a single piece of steel.|Wipe with an oiled rag before winter.|\
            Handles can be replaced without tools.|Guaranteed against rust for ten years.|\
            Drains well and never cracks in frost.|Balanced for smaller hands too.",
    },
    Department {
        category: "Houseplants",
        code: "PLT",
        price: (6, 120),
        about: "Green company for bright sills and dark corners alike.",
        qualities: "trailing|variegated|compact|tall|easy-care|rare|mature|pet-friendly",
        things: "monstera|pothos|snake plant|calathea|fiddle-leaf fig|string of pearls|rubber plant|\
            peace lily|boston fern|hoya|jade plant",
        sizes: "9 cm Pot|12 cm Pot|17 cm Pot|24 cm Pot",
        merits: "forgives a missed watering|grows a new leaf every other week|thrives in indirect light|\
            cleans up nicely on any shelf|is hard to kill, honestly",
        details: "Water when the top of the soil feels dry.|Grown without peat.|\
            Arrives in a nursery pot, well wrapped.|Likes a little feed from spring to autumn.|\
            Keep it out of draughts.|A card with care tips is in the box.",
    },
    Department {
        category: "Hand Tools",
        code: "TLS",
        price: (5, 220),
        about: "Tools to be handed down, for workshops and kitchen drawers.",
        qualities: "drop-forged|insulated|chrome-vanadium|ratcheting|precision|shock-absorbing|compact|\
            magnetic",
        things: "claw hammer|screwdriver set|adjustable wrench|wire stripper|hand saw|block plane|\
            chisel set|spirit level|tape measure|hex key set|bar clamp",
        sizes: "Standard|Professional|150 mm|300 mm|600 mm",
        merits: "fits the hand and the job|does not slip when it matters|survives a fall from the ladder|\
            reaches where fingers cannot|earns its hook on the wall",
        details: "Hardened jaws keep their bite.|The grip is comfortable even in gloves.|\
            Meets the DIN standard.|Comes with a lifetime guarantee.|\
            Marked in both millimetres and inches.|The case keeps everything in its place.",
    },
    Department {
        category: "Stationery",
        code: "STN",
        price: (2, 89),
        about: "Paper, ink and the pleasure of a sharp pencil.",
        qualities: "dotted|ruled|clothbound|recycled|brass|refillable|letterpress|pocket",
        things: "notebook|fountain pen|desk planner|sketchbook|mechanical pencil|letter set|ink bottle|\
            card pack|pencil case|ruler",
        sizes: "A4|A5|A6|Navy|Ochre|Forest",
        merits: "takes ink without bleeding|opens flat and stays flat|makes lists worth keeping|\
            writes on the first stroke|fits a jacket pocket",
        details: "The paper weighs 100 grams and is free of acid.|Bound with thread, not with glue alone.|\
            Printed with vegetable inks.|Ten pages at the back are perforated.|\
            Refills are sold separately.|The cover wears in, not out.",
    },
    Department {
        category: "Books",
        code: "BKS",
        price: (8, 65),
        about: "Cookery, craft, travel and stories: new books and good old ones.",
        qualities: "illustrated|annotated|collected|pocket|definitive|beginner's|clothbound|abridged",
        things: "atlas of islands|bread companion|field guide to clouds|history of salt|book of knots|\
            walker's journal|tale of the bazaar|gardener's year|primer of chess|almanac of stars|\
            guide to mending",
        sizes: "Hardback|Paperback|First Edition|Large Print",
        merits: "is hard to put down and easy to pick up|answers questions before they are asked|\
            belongs on the bedside table|has been read to pieces by our staff|rewards a second reading",
        details: "With forty colour plates and an index.|Translated for the first time.|\
            The author has walked every mile of it.|Printed on paper from sustainable forests.|\
            Includes a fold-out map.|A ribbon marks the page.",
    },
    Department {
        category: "Games & Puzzles",
        code: "GAM",
        price: (7, 98),
        about: "For long evenings, short breaks and everyone who hates to lose.",
        qualities: "wooden|cooperative|travel|deluxe|classic|two-player|illustrated|magnetic",
        things: "chess set|backgammon board|jigsaw puzzle|card game|domino set|strategy game|word game|\
            dice tower|mancala board|memory game",
        sizes: "2 Players|2 to 4 Players|3 to 6 Players|500 Pieces|1000 Pieces",
        merits: "is learned in five minutes and kept for years|gets three generations round one table|\
            ends friendships only briefly|packs into a coat pocket|never plays the same way twice",
        details: "Rules are in six languages.|A round takes about half an hour.|\
            Pieces are turned from beech.|For ages eight and up.|Lost pieces are replaced for free.|\
            The box is made to survive attics.",
    },
    Department {
        category: "Toys",
        code: "TOY",
        price: (5, 130),
        about: "Wood, wool and wheels for small hands.",
        qualities: "wooden|knitted|stacking|pull-along|painted|magnetic|plush|musical",
        things: "train set|building block set|bear|rainbow|shape sorter|doll's house|racing car|elephant|\
            xylophone|marble run|puppet",
        sizes: "Small|Large|Starter Set|Big Set|Pastel|Bright",
        merits: "is chewed, thrown and loved|grows with the child|needs imagination, not batteries|\
            keeps them busy through one whole coffee|is passed on to the next one",
        details: "Painted with water-based colours.|Tested to EN 71.|For ages eighteen months and up.|\
            Edges are rounded and sanded twice.|Filled with washable wool.|\
            Works with other sets of the series.",
    },
    Department {
        category: "Audio",
        code: "AUD",
        price: (25, 690),
        about: "Headphones, speakers and record players for those who listen.",
        qualities: "wireless|noise-cancelling|open-back|portable|bookshelf|studio|belt-drive|waterproof",
        things: "headset|earbud pair|speaker|turntable|soundbar|radio|microphone|amplifier|subwoofer",
        sizes: "Black|Silver|Walnut|Cream|Mk II",
        merits: "lets voices sound like people|plays all day on one charge|\
            fills a room without shaking it|disappears and leaves the music|\
            pairs in a second and stays paired",
        details: "Runs for up to thirty hours.|Supports AAC and LDAC.|Charges through USB-C.|\
            The pads and the battery can be replaced.|Comes with a cable for days without power.|\
            Tuned by ear in a real living room.",
    },
    Department {
        category: "Computer Accessories",
        code: "CMP",
        price: (9, 340),
        about: "Keyboards, docks and stands: comfort for the hours at a desk.",
        qualities: "mechanical|ergonomic|wireless|aluminium|USB-C|low-profile|adjustable|silent",
        things: "keyboard|mouse|laptop stand|monitor arm|docking station|webcam|desk mat|trackball|\
            numeric pad|cable tray",
        sizes: "Graphite|White|Compact|Full Size|Left-Handed",
        merits: "keeps wrists where they belong|clears the desk in one go|works with whatever you plug in|\
            is quiet enough for meetings|remembers every computer you own",
        details: "No driver is needed.|Tested for fifty million clicks.|Weighs enough to stay put.|\
            Works with Linux, macOS and Windows.|The cable is braided and can be unplugged.|\
            Carries up to 9 kg.",
    },
    Department {
        category: "Bags & Luggage",
        code: "BAG",
        price: (19, 420),
        about: "Bags for markets, mountains and Monday mornings.",
        qualities: "waxed canvas|full-grain leather|recycled nylon|roll-top|waterproof|quilted|wheeled|\
            packable",
        things: "backpack|tote|weekender|messenger bag|suitcase|wash bag|belt bag|laptop sleeve|duffel|\
            rucksack",
        sizes: "8 l|18 l|25 l|40 l|Tan|Navy",
        merits: "swallows a weekend without complaint|keeps the rain out and the shape in|\
            fits under the seat in front|carries its weight on the hips|\
            has a pocket for everything, and you find it",
        details: "Zips are by YKK and sealed.|Reinforced with bar tacks at every strap.|\
            Re-proof it once a year with wax.|The lining is bright, so keys can be found.|\
            Repairs are free for life.|A sleeve holds a 15-inch laptop.",
    },
    Department {
        category: "Cycling",
        code: "CYC",
        price: (6, 480),
        about: "Parts, lights and luggage for bicycles that are really ridden.",
        qualities: "alloy|carbon|rechargeable|waterproof|puncture-proof|leather|reflective|quick-release",
        things: "front light|saddle|pannier|bell|floor pump|tyre|helmet|handlebar bag|chain lock|\
            pedal set|mudguard set",
        sizes: "Black|Brown|28 Inch|700C|Medium|Large",
        merits: "shrugs off winter roads|makes cars keep their distance|goes on and off without a tool|\
            turns a commute into a ride|is light enough to forget",
        details: "Fits all common frames.|Visible from 500 metres.|Rated IPX5 against spray.|\
            All bolts are stainless.|Mounting takes two minutes.|\
            Tested over 20,000 kilometres of cobbles.",
    },
    Department {
        category: "Camping & Hiking",
        code: "CMG",
        price: (8, 560),
        about: "For nights under canvas and mornings above the clouds.",
        qualities: "ultralight|four-season|down-filled|insulated|titanium|self-inflating|windproof|\
            collapsible",
        things: "tent|sleeping bag|camping stove|flask|trekking pole pair|head torch|sleeping mat|cook set|\
            water filter|camp chair|dry bag",
        sizes: "1 Person|2 Person|Regular|Long|0.75 l|1 l",
        merits: "weighs less than your excuse not to go|stands up to a real storm|\
            packs down to the size of a loaf|keeps tea hot until the summit|sets up in the dark",
        details: "Seams are taped and tested.|Comfortable down to −5 °C.|A repair kit is in the bag.|\
            Fluorine-free water repellent.|Works with every common cartridge.|Dry it well before storing.",
    },
    Department {
        category: "Knitwear",
        code: "KNT",
        price: (15, 290),
        about: "Wool and cotton, knitted to be worn for years.",
        qualities: "merino|lambswool|cable-knit|organic cotton|mohair|ribbed|Fair Isle|alpaca",
        things: "jumper|cardigan|beanie|scarf|roll-neck|sock pair|mitten pair|waistcoat|shawl|headband",
        sizes: "XS|S|M|L|XL",
        merits: "keeps the wind where it belongs|does not itch, even at the neck|\
            keeps its shape after a hundred washes|is warmer than it looks|goes with everything you own",
        details: "Knitted in one piece, without side seams.|Wash cool in a wool cycle and dry flat.|\
            The wool is traceable to the farm.|Spare yarn for mending is included.|Cut true to size.|\
            Dyed in small lots.",
    },
    Department {
        category: "Jewellery",
        code: "JWL",
        price: (12, 980),
        about: "Silver, gold and stones, worked by people with names.",
        qualities: "sterling silver|gold-filled|hammered|freshwater pearl|turquoise|filigree|\
            recycled gold|garnet",
        things: "ring|pendant necklace|bracelet|ear stud pair|hoop pair|anklet|brooch|signet ring|chain|\
            bangle",
        sizes: "Fine|Bold|Size 52|Size 54|Size 56|45 cm",
        merits: "catches the light and a compliment|can be worn every day, even in the sea|\
            sits flat and never snags|looks older than it is, in the best way|whispers rather than shouts",
        details: "Hallmarked and made to order.|Free of nickel.|Comes in a small cedar box.|\
            Polish it with a soft cloth.|Stones are set by hand.|Resizing is free within a year.",
    },
];
