"""The words of the built-in corpus: lists of like words, tables of words that belong together, phrases.

Lists and tables are sorted from common to rare: a story takes the first words of each far more often than the last.
"""

__all__ = ["LISTS", "PHRASES", "TABLES"]

LISTS = {
    # People and how they feel.
    "trait": """little, kind, brave, curious, happy, cheerful, shy, clever, friendly, gentle, quiet, playful, young,
        careful, silly, helpful, thoughtful, polite, busy, lively, patient, merry, dreamy, eager, bold, jolly, honest,
        sweet, tidy, adventurous, hopeful, sensible, spirited, imaginative, chatty, bashful, cautious, daring,
        energetic, freckled, inventive, sturdy, nimble, graceful, generous, determined, restless, observant""",
    "happy": """happy, glad, very happy, joyful, cheerful, delighted, thankful, pleased, thrilled, grateful, overjoyed,
        content""",
    "sad": "sad, upset, unhappy, worried, gloomy, miserable, glum, heartbroken, tearful, downhearted, troubled",
    "scared": "scared, afraid, frightened, nervous, anxious, uneasy, fearful, terrified",
    "softly": """softly, kindly, gently, quietly, warmly, calmly, sweetly, tenderly, patiently, thoughtfully, lovingly,
        soothingly""",
    "job": """baker, farmer, gardener, teacher, painter, librarian, shopkeeper, tailor, nurse, carpenter, beekeeper,
        miller, fisherman, florist, grocer, potter, weaver, sailor, musician, firefighter, clockmaker, blacksmith,
        shepherd, mechanic, cobbler, doctor, dentist, plumber, bricklayer, engineer, sculptor, photographer, pilot,
        astronomer, journalist, innkeeper, locksmith, ferryman, knitter, toymaker, goldsmith, candlemaker""",
    # Times and places.
    "weather": "sunny, warm, bright, fine, lovely, clear, quiet, breezy, mild, golden, cloudless, pleasant, balmy",
    "daytime": "day, morning, afternoon",
    "size": "small, little, tiny, pretty, quiet, old, cozy, sunny, neat, sleepy, cheerful, peaceful, charming, humble",
    "town": "village, town, valley, city, seaside town, hamlet, fishing village, mountain town, farming village",
    "home": """house, cottage, farmhouse, cabin, apartment, brick house, wooden house, bungalow, stone cottage,
        lighthouse, windmill, houseboat, ranch""",
    "nearby": """by the sea, near the woods, beside a river, on a hill, at the edge of a forest, by a lake,
        near the mountains, at the end of a lane, across from the school, behind the market, along the coast,
        between two hills, near the harbor, next to a vineyard, above the bay,
        close to the railway, by the canal, among the wheat fields, beyond the orchards""",
    "meadow": """park, garden, meadow, field, yard, playground, orchard, backyard, schoolyard, clearing, pasture,
        vegetable garden, churchyard, courtyard""",
    "water": "pond, lake, river, stream, creek, duck pond, brook, fountain, canal, lagoon, reservoir, inlet",
    "walk": """path, road, lane, river, hedge, beach, trail, canal, stone wall, creek, shore, sidewalk, ditch,
        bridge, railway, pier""",
    "busy": """market, zoo, fair, museum, toy shop, library, train station, supermarket, circus, bookstore,
        flower show, airport, aquarium, harvest festival, amusement park, parade, theater""",
    "spot": """under the bed, behind the sofa, in the closet, under the table, in the toy box, behind the curtain,
        on the top shelf, in the laundry basket, under the stairs, in the kitchen drawer, behind the door,
        in the garden shed, under a pillow, beside the bookcase, in an empty suitcase, beneath the piano,
        behind the washing machine, inside a rubber boot, under the rug, in the attic, inside the wardrobe,
        on the windowsill, behind the grandfather clock, in the cellar""",
    "winterspot": """gate, fence, bench, frozen pond, big oak, well, swing, barn, woodpile, mailbox, old cart, bridge,
        sled hill, bird feeder, icy brook, chicken coop, snowy hedge, signpost, haystack, greenhouse""",
    # Things.
    "color": """red, blue, green, yellow, pink, purple, orange, white, brown, golden, silver, gray, black, striped,
        spotted, turquoise, violet, crimson, scarlet, lavender, emerald, checkered, ivory, maroon, coral, amber,
        magenta, indigo""",
    "airy": """kite, balloon, paper plane, toy plane, glider, paper bird, beach ball, feather, toy helicopter,
        paper dragon, parachute, streamer""",
    "tree": """apple tree, oak tree, pine tree, pear tree, maple tree, cherry tree, willow, chestnut tree, birch,
        walnut tree, elm, plum tree, beech, cedar, fir tree, olive tree, linden, ash tree, poplar, sycamore, spruce,
        magnolia, mulberry tree, hawthorn, fig tree, acacia""",
    "toy": """teddy bear, doll, toy car, toy train, ball, stuffed rabbit, toy robot, puppet, yo-yo, spinning top,
        drum, toy dinosaur, stuffed elephant, jump rope, rag doll, toy boat, puzzle box, stuffed penguin, toy horse,
        music box, toy tractor, stuffed giraffe, whistle, kaleidoscope, toy lion, stuffed owl, toy airplane,
        wooden duck, toy fire engine, tambourine, stuffed octopus, harmonica, toy ambulance, magnet, telescope""",
    "woolly": "mitten, scarf, hat, glove, cap, sock, earmuff, shawl, bonnet",
    "fragile": """cup, vase, plate, bowl, teapot, mug, jar, flowerpot, pitcher, dish, saucer, lamp, jug, sugar bowl,
        snow globe, picture frame, candlestick, cookie jar, porcelain cat, glass swan, butter dish, piggy bank,
        salt shaker, gravy boat""",
    "lostthing": """purse, ring, key, watch, wallet, necklace, umbrella, notebook, bracelet, locket, basket, brooch,
        pocketknife, compass, walking stick, earring, thimble, handkerchief, paintbrush, briefcase,
        medal""",
    "treasure": """shell, pebble, feather, leaf, button, coin, acorn, marble, stone, bead, pine cone, crystal,
        bottle cap, chestnut, starfish, fossil, seed pod, ribbon, arrowhead, eggshell, snail shell, piece of driftwood,
        gemstone""",
    "gift": """card, picture, paper crown, bead necklace, clay pot, bookmark, paper flower, little painting, clay cat,
        wooden star, scrapbook, knitted scarf, puppet, bird feeder, paper lantern, shell necklace,
        photo album, kerchief, pinecone wreath, mosaic, origami swan, dream catcher""",
    "treat": """cookie, cupcake, muffin, pancake, brownie, biscuit, donut, waffle, scone, pretzel, macaroon, dumpling,
        croissant, cinnamon roll, cheese roll, oatcake, turnover, popover, meringue, shortcake""",
    "cake": """chocolate, lemon, apple, carrot, banana, strawberry, honey, vanilla, blueberry, coconut, pumpkin,
        ginger, orange, walnut, almond, cinnamon, hazelnut, caramel, raspberry, pineapple, apricot, poppy-seed""",
    "fruit": """apples, berries, strawberries, pears, plums, cherries, grapes, peaches, oranges, blueberries, lemons,
        raspberries, figs, apricots, melons, pumpkins, turnips, cabbages, potatoes, carrots, onions, cucumbers,
        mangoes, coconuts, squashes, radishes, beets, limes, quinces""",
    "soup": """chicken, tomato, carrot, vegetable, noodle, pumpkin, potato, bean, mushroom, onion, leek, pea, lentil,
        barley, celery, cabbage, spinach, fennel, parsnip""",
    "flowers": """daisies, roses, tulips, violets, lilies, poppies, buttercups, bluebells, daffodils, sunflowers,
        marigolds, pansies, dandelions, snowdrops, lilacs, primroses, peonies, irises, orchids, cornflowers, foxgloves,
        geraniums, hyacinths, petunias, carnations, crocuses, begonias, asters""",
    "plant": """sunflower, pumpkin, tomato plant, bean plant, rose bush, strawberry plant, lemon tree, tulip,
        pea plant, watermelon, pepper plant, daffodil, blueberry bush, zucchini, hollyhock, grapevine,
        eggplant, cactus, lavender bush, avocado tree, jasmine bush""",
    "instrument": """flute, violin, drum, piano, guitar, trumpet, harp, recorder, ukulele, cello, banjo, accordion,
        clarinet, xylophone, bugle, tuba, mandolin, oboe, saxophone, fiddle, trombone, bagpipe, harmonica, zither""",
    "drawn": """cat, house, boat, rainbow, horse, dragon, garden, castle, whale, tiger, rooster, lighthouse, mountain,
        elephant, parrot, volcano, sailor, mermaid, waterfall, zebra, camel, peacock, dinosaur, octopus, windmill,
        flamingo, kangaroo, rhinoceros, unicorn, hippo, walrus""",
    "shirt": """shirt, dress, coat, sweater, jacket, costume, apron, vest, cardigan, raincoat, robe, smock,
        tunic, cape, hood""",
    "boatname": """Blue Star, Sea Duck, Sunbeam, Little Whale, Moonbeam, Swift, Pearl, Comet, Dolphin, Lucky Fish,
        Sparrow, Silver Fin, Happy Crab, Thunder, Snowflake, Otter, Golden Gull, Firefly, Penguin, Adventure,
        Jellyfish, Wanderer""",
    # Animals.
    "bird": """sparrow, robin, bluebird, finch, blackbird, wren, dove, swallow, pigeon, crow, thrush, magpie, canary,
        starling, lark, cardinal, woodpecker, goldfinch, nightingale, jay, oriole, hummingbird, chickadee, warbler""",
    "wise": "owl, turtle, toad, crow, deer, heron, badger, goose, tortoise, raven, salmon, donkey, stork, ram, moose",
    "huge": """bear, lion, horse, elephant, ox, tiger, moose, buffalo, giraffe, camel, wolf, bull, rhino, stag,
        gorilla, leopard, hippo, bison""",
    "tiny": """mouse, ant, squirrel, rabbit, chipmunk, mole, hamster, hedgehog, shrew, dormouse, gerbil, vole, mongoose,
        field mouse""",
    "jewel": """kindness, friendship, courage, patience, honesty, hope, gratitude, love, sharing, trust""",
}

TABLES = {
    "elder": """elder, he, him, his, call; mom, she, her, her, Mom; dad, he, him, his, Dad;
        grandma, she, her, her, Grandma; grandpa, he, him, his, Grandpa; aunt, she, her, her, Auntie;
        uncle, he, him, his, Uncle; mother, she, her, her, Mama; father, he, him, his, Papa;
        grandmother, she, her, her, Granny; grandfather, he, him, his, Grandad; nanny, she, her, her, Nanny""",
    "pet": """pet, cry, treat; kitten, meowed, warm milk; puppy, whimpered, a biscuit; bunny, squeaked, a carrot;
        duckling, peeped, bread crumbs; hamster, squeaked, sunflower seeds; chick, cheeped, some corn;
        guinea pig, whistled, lettuce; parrot, squawked, a grape; ferret, chattered, some chicken;
        piglet, squealed, a turnip; canary, chirped, millet; gosling, honked, barley; lamb, bleated, fresh clover""",
    "stray": """stray, trouble, rescue; duckling, stuck in the mud, scooped it out with both hands;
        turtle, lying on its back, turned it over; frog, trapped in a bucket, tipped the bucket on its side;
        hedgehog, tangled in an old net, untied the net knot by knot; lamb, caught in a bush, held the thorns aside;
        beetle, paddling in a puddle, held out a leaf like a raft; crab, trapped between two rocks, rolled a rock away;
        bee, too tired to fly, gave it a drop of sugar water; snail, crossing the street, carried it to the grass;
        butterfly, caught in a web, brushed the sticky threads away; mouse, trapped in a jar, laid a twig in the jar;
        squirrel, stuck in a fence, pulled the boards apart; fish, stranded in a puddle, carried it back in a cup;
        pigeon, tied up in string, loosened the string; piglet, stuck under a gate, dug away the dirt;
        seal pup, stranded on the sand, poured cool water over it; bat, lost in the daylight, hung it in a dark barn;
        toad, stuck in a flowerpot, lifted it out; calf, caught in a wire, bent the wire back;
        swan, wrapped in fishing line, snipped the line; caterpillar, stuck in wet paint, wiped its feet with a rag""",
    "critter": """critter, home, food; rabbit, burrow, carrots; bear, cave, honey; fox, den, berries;
        mouse, hole, cheese; squirrel, hollow tree, nuts; hedgehog, nest of leaves, mushrooms; beaver, lodge, twigs;
        otter, riverbank, clams; mole, tunnel, roots; badger, den, acorns; raccoon, hollow log, corn;
        chipmunk, burrow, seeds; deer, thicket, clover; porcupine, cave, bark; skunk, den, grapes;
        koala, gum tree, leaves; panda, cave, bamboo; hamster, tunnel, grain; weasel, rock pile, eggs;
        marmot, burrow, wildflowers; possum, old stump, plums; lemur, treetop, figs""",
    "noise": """noise, cause; tap-tap-tap, a branch tapping on the window; whoo-whoo, an owl singing outside;
        creak-creak, the old door moving in the wind; drip-drip, water dripping in the sink;
        scratch-scratch, the cat scratching at the door; tick-tock, the big clock in the hall;
        thump-thump, the dog wagging its tail on the floor; rustle-rustle, dry leaves on the roof;
        bang-bang, a loose shutter in the wind; squeak-squeak, a mouse nibbling on a crumb;
        whoosh-whoosh, the breeze in the chimney; hum-hum, the refrigerator in the kitchen;
        clink-clink, the wind chimes on the porch; flap-flap, the laundry on the clothesline;
        rattle-rattle, an acorn rolling down the gutter""",
    "pretend": """pretend, trip, game; rocket, flew to the moon, waved at the stars;
        ship, sailed to an island, dug for gold; train, rode over the mountains, counted the goats;
        castle, lived in a faraway kingdom, fed a friendly dragon; submarine, dove to the bottom of the sea,
        raced a whale; airplane, crossed the desert, looked down at the camels; bus, drove through the jungle,
        greeted the monkeys; igloo, lived at the North Pole, danced with the penguins; tent, camped in the wild,
        told stories to the owls; spaceship, landed on Mars, shook hands with robots; balloon, floated above the clouds,
        chased the swallows; cave, lived with the bears, painted on the walls; wagon, traveled across the prairie,
        sang with the cowboys; sleigh, glided through the north, jingled with the reindeer""",
    "skill": """skill, done, spot, slip, tip; ride a bike, rode the bike, in the park, fell onto the grass,
        Look ahead and keep pedaling; swim, swam, in the lake, swallowed a mouthful of water,
        Kick your legs and breathe slowly; skate, skated, on the frozen pond, landed on the ice,
        Bend your knees and glide; whistle, whistled a tune, on the porch, blew nothing but air,
        Make your lips small and round; juggle, juggled three balls, in the yard, dropped all the balls,
        Watch only the highest ball; jump rope, jumped rope, in the schoolyard, tripped over the rope,
        Listen to the beat of the rope; ski, skied down the slope, on the snowy hill, slid into a snowdrift,
        Lean forward a little; row a boat, rowed the boat, on the river, went around in circles,
        Pull both oars together; do a cartwheel, did a cartwheel, in the meadow, tumbled over sideways,
        Keep your arms straight; climb the rope, climbed the rope, in the gym, slid back to the floor,
        Hold on with your feet; ride a pony, rode the pony, on the farm, slipped out of the saddle,
        Sit up tall and hold the reins; dance, danced across the floor, in the kitchen, stumbled and bumped the table,
        Count the steps out loud; hit the ball, hit the ball, in the field, swung and missed,
        Keep your eyes on the pitcher; walk on stilts, walked on the stilts, in the courtyard, toppled into a hedge,
        Take short quick steps; surf, surfed on a wave, at the beach, splashed into the foam, Stand up in the middle""",
    "bold": """bold, place, scary; get a haircut, barber shop, the snipping of the scissors;
        see the doctor, clinic, the cold stethoscope; see the dentist, dentist's office, the humming chair;
        start school, school, the crowded hallway; ride the big slide, playground, the steep ladder;
        sleep at camp, camp, the dark cabin; ride the elevator, tall tower, the closing doors;
        cross the rope bridge, canyon, the swaying planks; ride the train, station, the roaring engine;
        jump off the dock, lake, the deep water; pet the big dog, farm, the loud barking;
        ride the roller coaster, fair, the rattling tracks; get a shot, hospital, the shiny needle""",
}

BOYS = """Tom, Ben, Max, Tim, Leo, Sam, Jack, Noah, Finn, Oliver, Henry, Theo, Lucas, Oscar, Adam, Felix, Hugo, Eli,
    Peter, Omar, Toby, Milo, Arthur, Daniel, Ravi, Simon, Jonah, Mateo, Kofi, Walter, Emil, Diego, Ivan, Kenji, Samir,
    Caleb, Rowan, Otto, Anton, Jasper, Malik, Hassan, Luca, Edgar, Pablo, Wesley, Tariq, Bruno"""
GIRLS = """Lily, Mia, Anna, Emma, Sara, Lucy, Zoe, Ella, Rosie, Amy, Nora, Ruby, Clara, Molly, Alice, Maya, Ivy, Sophie,
    Hannah, Leila, Daisy, Eva, Julia, Nina, Priya, Tara, Wendy, Freya, Amina, Greta, Violet, Hazel, Ingrid, Marta,
    Yuki, Fatima, Olive, Paula, Esther, Beatrice, Carmen, Zara, Matilda, Rosa, Winnie, Noemi, Ayla, Thea"""
TABLES["name"] = "name, he, him, his, himself, boy; " + "; ".join(
    f"{boy}, he, him, his, himself, boy; {girl}, she, her, her, herself, girl"
    for boy, girl in zip(BOYS.replace("\n", " ").split(", "), GIRLS.replace("\n", " ").split(", "), strict=True)
)

PHRASES = {
    "he": "{name.he}",
    "him": "{name.him}",
    "his": "{name.his}",
    "himself": "{name.himself}",
    "boy": "{name.boy}",
    "he2": "{name2.he}",
    "him2": "{name2.him}",
    "his2": "{name2.his}",
    "boy2": "{name2.boy}",
    "when": "[One day|One day|One {weather} {daytime}]",
    # The opening as a whole sentence, and the opening up to a subject that waits for its verb.
    "meet": """[Once upon a time, there was a {trait} {boy} named {name}.|Once upon a time, there was a {boy} named
        {name}.|Once upon a time, there lived a {trait} {boy} named {name}.|Once upon a time, a {trait} {boy} named
        {name} lived {nearby}.|{name} was a {trait} {boy} who lived in a {size} {town}.|{name} was a {boy} who lived in
        a {size} {home} {nearby}.]""",
    "start": "[{meet} {when}, {he}|{meet} {when}, {name}|{when}, a {trait} {boy} named {name}|{when}, {name}]",
    "meetcritter": """[Once upon a time, there was a {trait} {critter} named {name}.|Once upon a time, a {trait}
        {critter} named {name} lived in a {critter.home}.|In a {critter.home} at the edge of the forest lived a {trait}
        {critter} named {name}.|There once was a {critter} named {name} who loved {critter.food}.]""",
    "dontworry": """["Don't worry,"|"It is all right,"|"It will be fine,"|"Do not worry, {name},"] [said {his}
        {elder}|{his} {elder} said {softly}].""",
}
