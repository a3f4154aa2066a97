"""The plots of the built-in corpus, in the notation of `sample.py`, a blank line between two of them."""

__all__ = ["PLOTS"]

PLOTS = tuple(
    """
{start} [took|brought|carried] {his} {color} {airy} to the {meadow}. [Suddenly, a|Then a|A] [strong|cold|big] wind
[blew|carried|tossed] it to the top of [a|an old|a tall] {tree}. "[Oh no! My {airy} is stuck!|Come down, {airy}!|My poor
{airy}!]" [cried {name}|{he} cried]. {He} [jumped and jumped|stretched {his} arms|shook the trunk], but {he} could not
reach it. ¶ {His} {elder} [came running|heard {him} and came to help|saw it, too]. [{Elder.he} put a ladder against the
{tree} and climbed up, step by step.|{Elder.he} lifted {name} onto {elder.his} shoulders, higher and higher.|{Elder.he}
took a broom and gave the branch a gentle push.] [At last|Soon], the {airy} [was free|was safe|came down]. ¶ "Thank you,
{elder.call}!" said {name}. [{He} felt {happy}, and {he} played far away from the {tree}.|{He} held the {color} {airy}
tight all the way home.|They played together until dark, and the {airy} did not touch the {tree} again.]

{when=One [cold|snowy|frosty|white|icy] [winter day|winter morning|morning|afternoon]} {start} went out to [play in the
snow|build a snowman|ride {his} sled|make snow angels]. [After a while,|At noon,|When it was time to go in,] {his}
[new|favorite|soft|warm] {color} {woolly} was gone! "[I lost my {woolly}|I can't find my {woolly}|My {woolly} is gone],"
{he} [told {his} {elder}|said to {his} {elder}]. [{He} felt {sad}.|] ¶ {dontworry} "We can follow your footprints." They
went back past the {winterspot} and the {winterspot2}. There, [on a low branch|half under the snow|next to the
{winterspot3}|on top of a bush], was the {color} {woolly}! ¶ "[Hello|There you are], {woolly}!" {name} [laughed|called].
At home, they drank [hot cocoa|warm milk|hot milk|{soup} soup]. [{name} was warm and {happy} again.|"Next time I will
take better care," said {name}.]

{start} made a toy boat out of [wood|bark|cork|an old box|paper]. {He} painted it {color} and named it the {boatname}.
[But|At the {water},] [it began to sink|water came in, and it tipped over|it went down like a stone]. "[Oh dear, my boat
has a leak|The {boatname} is sinking]!" [cried {name}|{he} said]. ¶ {He} [pulled it out and|felt {sad}. {He}] showed
{his} {elder} the little hole. "[We can close it with wax|A bit of clay will help|Let us put a cork in it|Some glue will
do]," said {his} {elder}. They [worked side by side|fixed it together]. ¶ This time, the {boatname} [stayed dry|floated
like a duck|danced on the waves|sailed to the other side of the {water}]. {name} [clapped {his} hands|waved and
cheered]. [A good captain never gives up.|"It is the best boat in the world!" {he} said.|{He} was {happy} and proud of
the little {color} boat.]

{petname=[Biscuit|Button|Pepper|Snowy|Muffin|Patch|Honey|Clover|Bubbles|Peanut|Ginger|Cocoa|Rusty|Sunny|Jellybean|Waffles|Domino|Pickle]}
{meet} {He} had a [white|brown|black|gray|spotted|little] {pet} named {petname}. One [night|evening], [there was a big
storm|thunder went boom|lightning flashed across the sky], and {petname} ran and hid. {name} looked {spot} and {spot2}.
Then {he} found it {spot3}. The {pet} {pet.cry}, because it was {scared}. ¶ "[Do not be afraid|You are safe|I am here],
{petname}," {name} [whispered|said {softly}]. {He} [wrapped it in a {color} blanket|held it close|sang a song|told it a
story] and gave it {pet.treat}. [Little by little|Slowly], {petname} grew calm. ¶ In the morning, [the {pet} slept in
{name}'s lap|{petname} followed {name} everywhere|{name} and {petname} went out to play]. [Everyone is less afraid with
a friend.|They were the best of friends.|]

{start} [ran in the house|threw a ball in the house|danced around the room]. Crash! {His} {elder}'s {color} {fragile}
fell [off the shelf|to the floor|off the table] and broke. [{He} wanted to hide the pieces {spot}.|{He} thought about
blaming the cat.|{name} wanted to run away.] But {he} knew that was wrong. ¶ "I broke your {fragile}," {he} told {his}
{elder}. "I am [very|so] sorry." {His} {elder} [looked at the pieces|was quiet for a moment|took {his} hand]. "[Thank
you for telling me the truth|It was brave to tell me]," {elder.he} said {softly}. "[Let us glue it together|Now get the
glue, and we will fix it]." ¶ [They worked for a long time, and then|They worked carefully, and soon] the {color}
{fragile} was [almost like new|whole again|back in its place]. [{name} felt {happy} and light.|{name} never forgot that
{fragile}, and {he} was always honest.|From that day on, {name} played outside.|{name} learned that the truth makes the
heart light.]

{start} [baked|made] {treat}s with {his} {elder}. They were [warm|soft|golden] and [sweet|good]. {name} ate one, and
another, until only one {treat} was left. Then {his} friend {name2} [knocked on the door|came to visit|came in]. ¶
"[That smells good|I am so hungry]," said {name2}. "May I have a {treat}?" {name} [looked at the last one|thought about
it]. Then {he} broke the {treat} in two. "[One half for you and one half for me|We can share it|Let us both have some],"
{he} said. ¶ "You are a good friend!" said {name2}. [The next day, {he2} brought {fruit} and shared them with
{name}.|{name} took a bite, and it tasted better than a whole one.|They ate, and then they played in the {meadow}.
{name} was {happy}.|{name} was {happy}, because now there were two smiles and not one.]

{start} [wanted to|tried to] {skill}. [{His} {elder} helped {him}, and they|{He} and {his} {elder}] practiced
{skill.spot}. But {name} {skill.slip}. "[I can't do it|It is too hard]!" {he} [cried|said], and {he} felt {sad}. ¶
{dontworry} "{skill.tip}." {name} [nodded|wiped {his} eyes|took a deep breath] and tried again, and again, and again. ¶
Then, [all of a sudden|one {weather2} day|at last], it worked. {name} {skill.done} all by {himself}! "[Look at me|I did
it]!" {he} shouted. [{He} learned that practice makes hard things easy.|The next week, {he} taught {his} friend {name2}
to {skill}, too.|{His} {elder} clapped and said, "I knew you could {skill}!"]

{room=[under the stairs|under the table|behind the curtain|in the attic|behind the sofa|in the garden shed|in the
cellar|on the windowsill]} {meet} {He} had a {color} {toy} that {he} loved [very much|more than anything]. But one
[evening|night|morning], the {toy} was gone. {name} looked {spot}, but [it was not there|there was only dust|there was
only a sock|there was only a {treasure}]. "[I can't sleep without it|I miss my {toy}]," {he} [cried|said], and {he} felt
{sad}. ¶ {dontworry} "[When did you have it last|Where did you play today]?" "I played {room}!" said {name}. {He}
[ran|hurried] to look, and there was the {color} {toy}! ¶ {name} [hugged it tight|jumped for joy|danced around the
room]. [From then on, the {toy} slept next to {him}.|Soon {he} was fast asleep with the {toy} in {his} arms.|"I will
never lose you again!" {he} said.|{He} felt {happy} again.]

{start} went to the {busy} with {his} {elder}. {name} stopped to look at a [{color} {toy}|table full of {flowers}|box of
{fruit}|man with a {instrument}|{bird} in a cage]. When {he} turned around, {his} {elder} was gone. [{name}|{He}] felt
{scared}. ¶ "[Are you all right|Do you need help]?" asked a kind {job}. "I lost my {elder}," said {name}. "{Elder.he}
has a {color2} {shirt}." They [waited|looked around] together, and soon, {name} saw a {color2} {shirt} in the crowd. ¶
"{Elder.call}!" {he} shouted, and {he} ran into {elder.his} arms. They thanked the {job}, and {name} [held {his}
{elder}'s hand all the way home|did not let go of {elder.his} hand again|felt {happy}].

{start} saw a {stray} near the {walk}. It was {stray.trouble}. "[You poor thing|Oh, little {stray}]!" [said {name}|{he}
said]. The {stray} [looked very tired|did not move|looked {sad}]. {name} [knelt down|came closer|took a deep breath],
and then {he} carefully {stray.rescue}. ¶ At last, the {stray} was [safe|free]! [It looked back once, as if to say thank
you.|It rested for a moment and went on its way.|It looked much better.] "Goodbye, {stray}!" [called {name}|{he}
called]. ¶ ["You have a good heart," said {his} {elder} when {name} came home.|{name} was {happy} all day.|{name} knew
that no one is too small to be kind.|The next day, {name} saw the {stray} by the {walk} again, with all its family.]

{meet} {He} was [afraid|scared] of the dark. One night, {name} heard a strange sound. {Noise}! "[There is a monster
{spot}|Something is out there|I hear a ghost]!" {he} called. ¶ {His} {elder} came with a [small lamp|candle|flashlight].
"[Let us find out together|Let us look]," {elder.he} said {softly}. Hand in hand, they [tiptoed|walked] through the
[dark|quiet] house. It was only {noise.cause}! ¶ {name} began to laugh. "[That is not a monster at all|So that was my
monster]!" {he} said. [After that, {he} slept well.|From that night on, the dark was not so scary.|{He} listened to the
{noise} until {he} fell asleep.]

There was a new {boy2} at {name}'s school. {His2} name was {name2}, and {he2} came from [a {town} far away|a country
across the sea|a {size} {town} in the north]. {He2} [sat alone|stood by the fence|did not talk to anyone] and looked
{sad}. {name} was a {trait} {boy}, and {he} wanted to [help|be friends]. {He} drew a {color} {drawn} and gave it to
{name2}. "[This {drawn} is for you,|Do you like my {drawn}?]" {he} said. ¶ {name2} [smiled|began to smile]. {He2} took a
[crayon|pencil] and drew a {color2} {drawn2} next to it. "Now they are friends," said {name2}. "Like us!" said {name}. ¶
[After school, they ran to the {meadow} and played until dark.|From that day on, they ate lunch together.|The next day,
{name2} brought {treat}s, and {name} loved them.] [A little kindness can start a big friendship.|{name} was {happy} to
have a new friend.|{name} hung the picture over {his} bed.]

{start} baked a {cake} cake for {his} {elder}'s birthday. But {he} [was in a hurry|did not look closely|thought of
something else], and {he} put in salt instead of sugar! {name} took a bite. "[Yuck! It tastes like the sea|Oh no, my
{cake} cake is too salty]!" {he} said. ¶ {His} friend {name2} [was there to help|looked in at the window|came by]. "[We
have time to make another one|Let us try again]," {he2} said. This time, they were careful, and they put
[berries|nuts|candles|sprinkles|cherries|raisins|jelly beans|mint leaves|{flowers}] on top. ¶ [When {his} {elder} came
home|In the evening], {name} brought out the new {cake} cake. "[What a wonderful cake|This is the best cake of my
life]!" said {his} {elder}. {name} and {name2} [laughed|giggled|smiled].

{start} put a {plant} seed in a {color} pot. [{He} watered it.|{He} put it in the sun.|{He} could not wait.] [The next
morning|The next day|A week later], there was [only dirt|nothing to see]. "[My seed is broken|It does not want to
grow|It is asleep forever]," {name} told {his} {elder}. {He} felt {sad}. ¶ "[Good things take time|A seed needs time to
wake up|You must be patient]," said {his} {elder} {softly}. So {name} gave it a little water every day. ¶ Then, one
{weather2} morning, a [small|tiny] green [leaf|tip] looked out! It grew and grew. By the end of summer, {name} had [a
big|a strong|a tall|the best] {plant}. ["You were right, {elder.call}!" {he} said.|"I waited, and it came!" {he}
said.|{He} was so proud of it.|{He} kept one seed for the next spring.|All the neighbors came to see it.]

{event=[fair|school|harvest festival|park|beach|stadium]} {start} ran in the big race at the {event}. The prize was a
{color} [cup|ribbon|medal|flag|{toy}|cap]. "Ready, set, go!" called the {job}. {name} ran [like the wind|as fast as {he}
could], and soon {he} was in front. ¶ Then {he} heard a cry. {name2} had [tripped on a stone|fallen down] and hurt
{his2} knee. [{name} looked at the finish line, and then {he} turned around.|{name} could win, but {he} stopped and
turned around.|{name} forgot all about the prize and turned around.] "[Take my hand|Lean on me|I will help you]," {he}
said. They came in last, but everybody [clapped|cheered]. ¶ "[A friend is better than a prize|You are more important
than a prize]," said {name}. [The {job} gave them both {flowers}.|After that day, the two always ran together.|It was
the best race {name} had ever run.]

{start} could not find {his} {color} {toy}. [There were [books and socks|clothes and toys|toys and papers] all over
{his} room.|{His} room was a mess.|The floor was covered with [books|clothes|papers].] "[Someone took my {toy}|My {toy}
ran away|My {toy} is gone]!" {he} [said|cried]. ¶ "[Let us clean up and see|First we tidy, then we find]," said {his}
{elder}. {name} [sighed|did not want to|was {sad}], but {he} began. {He} found [a {treasure}|three pencils|an old
{treat}|a lost {woolly}] {spot}. When the room was almost clean, {name} looked {spot2}. ¶ "[Here it is|I found it]!"
{he} shouted. The {color} {toy} had been there all the time. [After that, {name} put {his} things away every evening.|A
clean room hides nothing.|{name} was {happy} and hugged {his} {toy}.|"Thank you, {elder.call}!" said {name}.]

{start} and {his} friend {name2} found a {color} {toy} [in the {meadow}|near the {walk}]. ["I saw it first!" said
{name}. "No, I did!" said {name2}.|"It is mine!" said {name}. "No, mine!" said {name2}.|Both of them wanted it.] They
pulled and pulled until the {toy} fell into [the mud|a puddle|the ditch]. Now both of them were {sad}. ¶ {name} sat on
one side, and {name2} sat on the other. "I am sorry," said {name}. "[Let us clean it together and take turns|You can
have it first, and then me|A friend is more than a {toy}]." ¶ "I am sorry, too," said {name2}. They
[cleaned|washed|dried] the {toy}, and {name2} played while {name} counted to [ten|twenty|fifty]. [{name} learned that
taking turns is better than a fight.|From that day on, {name} and {name2} shared everything.|A toy is nice, but a friend
is nicer.]

{when=One [gray|rainy|wet|stormy] [day|morning|afternoon|Sunday]} {start} could not go out, because it rained and
rained. "[There is nothing to do|I am so bored]," {he} said. {His} {elder} pointed to a big [box|pile of pillows|basket
of blankets]. "What could that be?" {elder.he} asked {softly}. ¶ {name} looked at it. "It is a {pretend}!" {he} shouted.
{He} [put a {color} flag on top|hung a {color} sign on it|brought a {color} lamp], and {his} friend {name2} came, too.
They {pretend.trip}, and there they {pretend.game}. ¶ [When the rain stopped, {name} did not even see it.|"Just five
more minutes!" said {name} when the rain stopped.|With a good idea, {name} was never bored.|The {pretend} stood in
{name}'s room for many weeks.]

{meet} It was {his} {elder}'s birthday, but {name} had no money. [In the shop, a {color} {shirt}|The {color} {shirt} in
the window|A new {color} {shirt}] cost too much. {He} felt {sad}. "[What can I do|What can I give]?" {he} asked {his}
friend {name2}. ¶ "[You are good at making things|A gift can be made, too]," said {name2}. So {name} sat down and made a
{gift}. {He} [worked all morning|worked very hard|took {his} time] and put a {color2} {treasure} on it. ¶ {His} {elder}
[was quiet for a moment|smiled a big smile|had tears in {elder.his} eyes]. "[This is the best gift of all|You made this
{gift} for me]!" {elder.he} said and hugged {name}. [The best gifts come from the heart.|]

{start} heard that {his} {elder} was sick. {name} missed [{elder.his} songs|{elder.his} stories|their walks to the
{meadow}]. ["How can I help?" {he} asked {himself}.|{He} wanted to help.|{He} wanted to make {elder.him} smile.] {He}
picked {flowers} and put them in a {color} [jug|vase|cup|bottle]. Then {he} and {his} friend {name2} made {soup} soup. ¶
"[Is that {soup} soup|What smells so good]?" asked {his} {elder} in a weak voice. {Elder.he} ate it all, and {name} read
{elder.him} a story about a {drawn}. ¶ [The next day|In a few days], {elder.he} was [much better|well again]. "[Your
soup was the best medicine|You made me well, {name}]," {elder.he} said, and {name} [felt {happy}|smiled].

{start} and {his} friend {name2} built a sandcastle on the beach. It had [three towers|four walls|a deep moat|a big
gate], and {name} put a {color} {treasure} on top. But then a wave came, and splash! The castle was gone, and so was the
{treasure}. ¶ {name2} began to cry. {name} was {sad}, too. "Let us build a new one [near the rocks|up in the dunes|far
from the waves]," {he} said. The new castle was even better. ¶ And there, in the wet sand, {name} saw the {color}
{treasure}! [The sea had given it back.|{He} put it on the highest tower.|You can always begin again.|{name} and {name2}
waved to the sea and went home {happy}.|"Good night, castle," said {name}.]

{start} found a {color} {lostthing} [near the {walk}|in the {meadow}|under a {tree}]. "[Can I keep it?|It is mine now!]"
{he} said. "[Someone is looking for it|Think how sad the owner must be]," said {his} {elder} {softly}. ¶ So they [went
from door to door|went to find the owner]. They asked the {job}, but [the {job} had never seen it|it did not belong to
the {job}]. At last, they came to the {job2}. "My {lostthing}!" cried the {job2}. "[It was a gift from my mother|I have
had it for forty years|I looked for it everywhere]." ¶ {name} gave it back with a smile. [The {job2} was so happy and
gave {him} a {treat}.|The {job2} thanked {him} and gave {him} a bunch of {flowers}.|] [{name} was glad that {he} had not
kept it.|"Thank you, honest {boy}," said the {job2}, and {name} stood very tall.|The best thing was the warm feeling in
{name}'s heart.]

{bug=[firefly|butterfly|ladybug|dragonfly|moth|beetle|bumblebee|mayfly]} {start} caught a {bug} in a glass jar. "[You
are my pet now|You will live with me]," {he} told it. {He} gave it a [fresh|green|juicy|big] leaf to eat. But the next
morning, the {bug} did not [move|eat|fly]. [{name}|{He}] felt {sad}. ¶ "[Would you like to live in a jar|Where is its
home]?" {his} {elder} asked {softly}. {name} thought of the {flowers} in the {meadow}. {He} carried the jar outside and
opened the lid. ¶ The {bug} flew [around {name}'s head|over the {tree}] and away. [That evening, a {bug} sat on {his}
window.|{name} liked it even better now that it was free.|{name} learned that a friend must be free to be happy.]

{guest=[cricket|sparrow|wren|beetle|robin|grasshopper|finch|lizard]} {meetcritter} All fall, {he} hid {critter.food} in
{his} {critter.home}. "[These are all mine|I will not share]," said {name}. Then winter came. A cold little {guest}
knocked at the door. "[I am so hungry|Please give me something to eat]," it said. But {name} shut the door. ¶ {He} could
not sleep. {He} thought of the {guest} in the snow and felt {sad}. {name} went out and found the {guest} under a {tree}.
"[Come inside|Forgive me|There is enough for two]," {he} said. ¶ They ate {critter.food} together, and the {guest}
[sang|told stories] all evening. [When spring came, they were best friends.|"{Jewel} tastes better than {critter.food},"
laughed {name}.|From that night on, {name} shared with everyone in the forest.]

[Once upon a time, there was a {trait} {tiny} named {name}.|Once upon a time, a {trait} {tiny} named {name} lived near a
{water}.] {When}, a big {huge} [came to the forest|walked by|came to drink at the {water}]. "[You are so small|You are
only a little {tiny}]!" laughed the {huge}. "[I am small, but I can be a good friend|You may need me some day]," said
{name}. ¶ The next [day|morning|night], {name} heard a [loud|terrible] cry. The {huge} was caught in a net under a
{tree}! {name} was {scared}, but {he} [ran|hurried] to help. {He} bit the ropes, one by one, until the {huge} was free.
¶ "[You saved me, {name}|I was wrong about you]," said the {huge}. [The {huge} let {name} ride on its back.|That
evening, they shared some {fruit}.|Then it carried {name} home on its back.] [Even a small friend can be a great
help.|Being small does not mean being weak.|]

{fear=[afraid|scared|frightened]} {chick=[Pip|Dot|Bibi|Coco|Tweet|Fluff|Kiki|Lulu]} [Once upon a time, a {trait} {bird}
named {name} lived|There once was a {trait} {bird} named {name} who lived] in a nest in [a|an old|a tall] {tree}. [All
the other young birds could fly|{His} brothers could fly], but {name} was {fear}. "[It is too high!|What if I fall?]"
{he} said. ¶ {When}, [a strong wind shook the {tree}|the branch began to swing], and {his} baby sister {chick} fell into
the {water}! "Help!" cried {chick}. {name} forgot to be {fear}. {He} jumped and opened {his} wings, and the wind held
{him} up. {name} was flying! ¶ {He} [held out a twig|dropped a big leaf], and {chick} [held on to it|climbed on it].
{name} pulled her out. [From that day on, {name} flew higher than all the others.|Then {name} flew around the {tree}
three times, just for fun.|"You can fly, {name}!" said {chick}.|{He} was brave because someone needed {him}.]

{other=[frog|snail|turtle|toad|ladybug|lizard|cricket|duckling|beetle|wren|gecko|newt]} {meetcritter} {He} had a warm
{critter.home} and plenty of {critter.food}, but {he} had no friends. One day, {name} went to find one. First {he} met a
{huge}, but the {huge} was too busy. Then {he} met a {bird}, but the {bird} flew away. ¶ {name} sat down under a {tree}
and felt {sad}. Then a {other} came by with a {color2} {treasure}. "I can't find a friend," said {name}. "[Neither can
I|I am alone, too]," said the {other}. ¶ [So they|They sat down and] shared the {critter.food} and played with the
{treasure} until the stars came out. [The next day, they met under the {tree} again.|And {name} was never lonely again.]

{meetcritter} {When}, {he} followed a [{color} butterfly|flying leaf|falling star] deep into the woods. "[How will I get
home|Where is my {critter.home}]?" {he} cried. {name} was lost and {scared}. ¶ An old {wise} heard {him}. "[What is near
your home|What do you see from your {critter.home}]?" asked the {wise}. "A {water} and a {tree}," {he} said. "[Then
follow that star|Then walk with the wind behind you]," said the {wise}. ¶ {name} went over a [hill|log|bridge], and
there was the {tree}, and there was {his} mother at the door of the {critter.home}! [The next day, {name} brought the
{wise} some {critter.food}.|{name} was {happy}, and they ate {critter.food} for supper.|It was good to be home.]

{meet} {He} had a loose tooth. {He} was {scared}, and {he} ate only {soup} soup. {dontworry} "[It will come out when it
is ready|All children lose their teeth]." ¶ {When}, {his} friend {name2} came with a bag of [red|green|sweet|crisp]
[apples|pears]. {name} forgot about {his} tooth. Crunch! {He} took a big bite, and something [hard|small and white] was
in it. "My tooth [is out|did not hurt at all]!" {he} cried. ¶ At bedtime, {he} put the tooth in a {color}
[box|cup|sock|envelope]. In the morning, there was a [shiny coin|silver coin|{color2} {treasure}|tiny letter] in its
place. [{name} showed {name2} {his} big new smile.|"I hope the next one comes out soon," said {name}.|{name} was
{happy}, and {he} was not afraid of the next tooth.]

{meet} [{When}, it was time for {him} to {bold} for the first time.|It was the day when {he} would {bold} for the first
time.] {name} was afraid of {bold.scary}. {He} hid {spot} with {his} {color} {toy}. ¶ "[I was afraid, too, when I was
small|Let us take the {toy} with us]," said {his} {elder} {softly}. At the {bold.place}, {name} [held the {toy}
tight|closed {his} eyes] and counted to ten. ¶ "[All done|You did it]!" said {his} {elder}. {name} got a {color2}
[sticker|balloon|star|badge|pencil], and [the {toy} got one, too|{he} gave it to the {toy}]. [{name} felt {happy} and
proud.|"When can we come again?" asked {name}.|After that, {name} was not afraid of {bold.scary} anymore.]

{meet} {He} played the {instrument} every day. {When}, {his} teacher said, "[You will play in the big show|The whole
{town} will come to hear you]." {name} was {scared}. ¶ {dontworry} "[Look for my {color} {shirt}, and play for me|Look
for me in my {color} {shirt}]." On the day of the show, every seat was full. {name}'s first note was too
[loud|soft|low|high], and {he} stopped. ¶ Then {he} saw a {color} {shirt} in the front row. {His} {elder}
[smiled|waved|nodded]. {name} began again, and [at the end|soon] everyone [clapped|cheered]. ["I played it for you,"
{name} told {his} {elder}.|{name} and {his} {elder} walked home in the moonlight.|{name} was so {happy} that {he} played
the song once more at home.]

{seller=[farmer|gardener|grocer|baker|miller|cook|innkeeper]} {event=[market|fair|harvest festival|town square|big
market]} {start} helped the {seller} take {fruit} to the {event} in a {color} cart. Crack! A wheel came off, and the
{fruit} rolled [down the hill|all over the road]. "[Oh no, my {fruit}|What shall we do]!" cried the {seller}. ¶ {name}
[picked them up, one by one|ran after them|gathered them in {his} arms]. Then {he} saw {his} friend {name2} [on the
bridge|by the gate]. "We need your help!" called {name}. {name2} brought a [hammer|rope|new wheel], and soon the wheel
turned again. ¶ [At the {event}, they sold everything. {name} was {happy}.|{name} rode home in the {color} cart and
sang.|When many hands help, heavy work is light, and {name} was {happy}.|{name} and {name2} each got a {treat} for their
help.]

{start} sold lemonade [by the road|in front of the house|at the gate], because {he} wanted to buy a {color} {toy}. [But
nobody came.|{name} waited and waited.] Then {his} friend {name2} came along. "You need a sign," {he2} said. They
painted a big sign with a {color2} {drawn} on it. ¶ Soon, the {job} saw it and stopped. "[What a funny {drawn}|That
{drawn} made me thirsty]!" said the {job} and bought two cups. Then came the {job2} and a whole line of people. ¶ In the
evening, there was enough money for the {toy}! {name} and {name2} bought it together. [They took turns with it all
week.|{name} was {happy}, because it was more fun to share.|Good ideas grow when there are two of you.]

{puff=[bubbles|steam|smoke rings|snowflakes|sparkles|feathers|flower petals|soap foam]} Once upon a time, there was a
[young|little|green|{color}] dragon named {name}. All the other dragons could breathe fire, but {name} could only
breathe {puff}. [The others laughed, and {he}|{He}] felt {sad}. ¶ {When}, {he} heard a {boy2} crying near a {tree}. It
was {name2}. "My {toy} is broken," {he2} said. {name} took a deep breath and blew. {Puff} filled the air, up to the top
of the {tree}! ¶ {name2} began to laugh. "[Fire is hot and scary|Anyone can make fire]," {he2} said. "I like your {puff}
much better." [From then on, all the children came to see {name}.|{name} flew home with {his} head held high.|{name} and
{name2} met at the {tree} every day.]
""".strip().split("\n\n")
)
