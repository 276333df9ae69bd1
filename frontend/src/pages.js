// What every page of ours does once its script runs. Each page works without it.
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
// First of those that change the page: it remembers how the server wrote it.
keepLive({ onReplaced: offerCopying });
offerCopying();
