// Scripts of every page, each of which works without them.
import { offerCopying } from "./copy.js";
import { showAppliedFilters } from "./filters.js";
import { keepLive } from "./live.js";
import { keepPlaying } from "./player.js";
import { offerTickAll } from "./ticks.js";
import { tellTimeZone } from "./timezone.js";

tellTimeZone();
offerTickAll();
showAppliedFilters();
keepPlaying();
// Before all that change the page, since it keeps the page as the server wrote it.
keepLive({ onReplaced: offerCopying });
offerCopying();
